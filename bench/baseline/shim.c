/*
 * What this part of libsodium needs of the rest of it, and the choice of its kernels.
 *
 * sodium_init() asks the CPU once and picks for good. Here the picking is done for a wish: with the
 * kernels of the CPU or, to compare with, the portable C alone.
 */
#include <stddef.h>
#include <stdlib.h>

#include "core.h"
#include "crypto_verify_16.h"
#include "private/implementations.h"
#include "randombytes.h"
#include "runtime.h"
#include "utils.h"

static int with_kernels;

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ON_CPU(feature) (with_kernels && __builtin_cpu_supports(feature) != 0)
#else
#define ON_CPU(feature) 0
#endif

int sodium_runtime_has_sse2(void) { return ON_CPU("sse2"); }
int sodium_runtime_has_ssse3(void) { return ON_CPU("ssse3"); }
int sodium_runtime_has_sse41(void) { return ON_CPU("sse4.1"); }
int sodium_runtime_has_avx(void) { return ON_CPU("avx"); }
int sodium_runtime_has_avx2(void) { return ON_CPU("avx2"); }

/* Nothing here is secret. */
void sodium_memzero(void *const pnt, const size_t len)
{
    volatile unsigned char *volatile bytes = (volatile unsigned char *volatile) pnt;
    size_t i;

    for (i = 0; i < len; i++) {
        bytes[i] = 0;
    }
}

int sodium_is_zero(const unsigned char *n, const size_t nlen)
{
    unsigned char d = 0;
    size_t i;

    for (i = 0; i < nlen; i++) {
        d |= n[i];
    }
    return d == 0;
}

void sodium_misuse(void)
{
    abort();
}

/* Referred to by functions that are never called here. */
int crypto_verify_16(const unsigned char *x, const unsigned char *y)
{
    (void) x;
    (void) y;
    abort();
}

void randombytes_buf(void *const buf, const size_t size)
{
    (void) buf;
    (void) size;
    abort();
}

/* Fetches a table item or announcement into the caches. */
void packetcrypt_baseline_prefetch(const unsigned char *bytes, size_t len)
{
#if defined(__GNUC__) || defined(__clang__)
    size_t at;

    for (at = 0; at < len; at += 64) {
        __builtin_prefetch(bytes + at);
    }
#else
    (void) bytes;
    (void) len;
#endif
}

/* Picks the kernels; says whether AVX2 ones are used. */
int packetcrypt_baseline_pick(int wanted)
{
    with_kernels = wanted;
    _crypto_generichash_blake2b_pick_best_implementation();
    _crypto_onetimeauth_poly1305_pick_best_implementation();
    _crypto_scalarmult_curve25519_pick_best_implementation();
    _crypto_stream_chacha20_pick_best_implementation();
    return sodium_runtime_has_avx2();
}
