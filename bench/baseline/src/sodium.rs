//! The functions of libsodium that the reference calls.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Kernels;

/// libsodium, ready to be called. The choice of kernels is one of the whole process, so there is
/// one such value at a time; threads share it.
#[derive(Debug)]
pub struct Libsodium {
    kernels: Kernels,
    has_avx2: bool,
    _only: MutexGuard<'static, ()>,
}

static ONLY: Mutex<()> = Mutex::new(());

/// `crypto_onetimeauth_poly1305_state`.
#[repr(C, align(16))]
struct PolyState([u8; 256]);

mod c {
    use core::ffi::{c_int, c_uchar, c_ulonglong};

    unsafe extern "C" {
        pub(super) fn packetcrypt_baseline_pick(wanted: c_int) -> c_int;
        pub(super) fn packetcrypt_baseline_prefetch(bytes: *const c_uchar, len: usize);
        pub(super) fn crypto_stream_chacha20_ietf(
            c: *mut c_uchar,
            clen: c_ulonglong,
            n: *const c_uchar,
            k: *const c_uchar,
        ) -> c_int;
        pub(super) fn crypto_stream_chacha20_ietf_xor_ic(
            c: *mut c_uchar,
            m: *const c_uchar,
            mlen: c_ulonglong,
            n: *const c_uchar,
            ic: u32,
            k: *const c_uchar,
        ) -> c_int;
        pub(super) fn crypto_onetimeauth_poly1305_init(
            state: *mut super::PolyState,
            key: *const c_uchar,
        ) -> c_int;
        pub(super) fn crypto_onetimeauth_poly1305_update(
            state: *mut super::PolyState,
            input: *const c_uchar,
            inlen: c_ulonglong,
        ) -> c_int;
        pub(super) fn crypto_onetimeauth_poly1305_final(
            state: *mut super::PolyState,
            out: *mut c_uchar,
        ) -> c_int;
        pub(super) fn crypto_generichash_blake2b(
            out: *mut c_uchar,
            outlen: usize,
            input: *const c_uchar,
            inlen: c_ulonglong,
            key: *const c_uchar,
            keylen: usize,
        ) -> c_int;
        pub(super) fn crypto_scalarmult_curve25519(
            q: *mut c_uchar,
            n: *const c_uchar,
            p: *const c_uchar,
        ) -> c_int;
        pub(super) fn crypto_scalarmult_curve25519_base(
            q: *mut c_uchar,
            n: *const c_uchar,
        ) -> c_int;
    }
}

impl Libsodium {
    /// Picks the kernels. Waits until the value of an earlier call is gone.
    #[must_use]
    pub fn start(kernels: Kernels) -> Libsodium {
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: it writes the function pointers of libsodium, which nobody reads meanwhile: they
        // are read by methods of the value that the lock makes the only one.
        let has_avx2 =
            unsafe { c::packetcrypt_baseline_pick((kernels == Kernels::Fastest).into()) } != 0;
        Libsodium { kernels, has_avx2, _only: only }
    }

    /// Its version and kernels, to be shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match (self.kernels, self.has_avx2) {
            (Kernels::Portable, _) => "libsodium 1.0.18, portable C",
            (Kernels::Fastest, true) => "libsodium 1.0.18, AVX2",
            (Kernels::Fastest, false) => "libsodium 1.0.18, without AVX2",
        }
    }

    pub(crate) fn prefetch(&self, bytes: &[u8; 1024]) {
        // SAFETY: the range is that of the array.
        unsafe { c::packetcrypt_baseline_prefetch(bytes.as_ptr(), bytes.len()) }
    }

    /// The beginning of a ChaCha20 key stream.
    pub(crate) fn stream(&self, key: &[u8; 32], nonce: &[u8; 12], out: &mut [u8]) {
        let len = out.len() as u64;
        // SAFETY: key and nonce have the lengths of this cipher, and `out` is `len` bytes.
        unsafe {
            c::crypto_stream_chacha20_ietf(out.as_mut_ptr(), len, nonce.as_ptr(), key.as_ptr())
        };
    }

    /// XORs the ChaCha20 key stream from a block on into `data`.
    pub(crate) fn stream_xor(&self, key: &[u8; 32], nonce: &[u8; 12], block: u32, data: &mut [u8]) {
        let (at, len) = (data.as_mut_ptr(), data.len() as u64);
        // SAFETY: as for `stream`; libsodium allows the output to be the input.
        unsafe {
            c::crypto_stream_chacha20_ietf_xor_ic(at, at, len, nonce.as_ptr(), block, key.as_ptr())
        };
    }

    /// The Poly1305 tag of `message || tail`.
    pub(crate) fn tag(&self, key: &[u8; 32], message: &[u8], tail: &[u8; 16]) -> [u8; 16] {
        let mut state = PolyState([0; 256]);
        let mut tag = [0; 16];
        // SAFETY: the state has the size and alignment that libsodium asks for, and all lengths
        // are those of the slices.
        unsafe {
            c::crypto_onetimeauth_poly1305_init(&raw mut state, key.as_ptr());
            for part in [message, tail] {
                let len = part.len() as u64;
                c::crypto_onetimeauth_poly1305_update(&raw mut state, part.as_ptr(), len);
            }
            c::crypto_onetimeauth_poly1305_final(&raw mut state, tag.as_mut_ptr());
        }
        tag
    }

    /// BLAKE2b with a digest of `N` bytes, 32 or 64.
    pub(crate) fn blake2b<const N: usize>(&self, message: &[u8]) -> [u8; N] {
        const { assert!(N == 32 || N == 64) };
        let mut digest = [0; N];
        // SAFETY: lengths are those of the slices, and no key is given.
        unsafe {
            c::crypto_generichash_blake2b(
                digest.as_mut_ptr(),
                N,
                message.as_ptr(),
                message.len() as u64,
                core::ptr::null(),
                0,
            )
        };
        digest
    }

    /// X25519 of a scalar and the base point.
    pub(crate) fn x25519_base(&self, scalar: &[u8; 32]) -> [u8; 32] {
        let mut product = [0; 32];
        // SAFETY: both are 32 bytes.
        unsafe { c::crypto_scalarmult_curve25519_base(product.as_mut_ptr(), scalar.as_ptr()) };
        product
    }

    /// X25519 of a scalar and a point.
    pub(crate) fn x25519(&self, scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        let mut product = [0; 32];
        // SAFETY: all three are 32 bytes.
        unsafe {
            c::crypto_scalarmult_curve25519(product.as_mut_ptr(), scalar.as_ptr(), point.as_ptr())
        };
        product
    }
}
