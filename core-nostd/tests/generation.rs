//! The fast generator is the plain one, on every back end.

use core::ops::Range;

use packetcrypt_core::primitives::expand;
use packetcrypt_core::randhash::{Generator, PlainGenerator, Program};
use packetcrypt_core::{Backend, ProgramError};

/// Seeds that are always compared.
const SEEDS: u64 = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
/// A program of 2136 words, as the vectors say.
const TOO_BIG: u64 = 0x09b1_9426;

/// Seeds as those of spec 02, 10.9.
fn seed(number: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    seed[28..].copy_from_slice(&[0x01, 0xef, 0xcd, 0xab]);
    seed
}

#[test]
fn the_fast_generator_is_the_plain_one() {
    compare(0..SEEDS);
}

#[test]
#[ignore = "more than a minute; the test above compares the first 10 000 each time"]
fn the_fast_generator_is_the_plain_one_for_100_000_seeds() {
    compare(SEEDS..SEEDS + 100_000);
}

fn compare(numbers: Range<u64>) {
    let backends: Vec<Backend> = Backend::available().collect();
    let (mut generator, mut plain) = (Generator::new(), PlainGenerator::new());
    let (mut program, mut wanted) = (Program::EMPTY, Program::EMPTY);
    for number in numbers {
        let seed = seed(number);
        let mut expand = |num, out: &mut [u8]| expand(&seed, num, out);
        let result = plain.generate(&mut expand, &mut wanted);
        // Each back end gets its part of the seeds, and all of them the first.
        let own = backends[number as usize % backends.len()];
        let on = if number < 300 { &backends[..] } else { core::slice::from_ref(&own) };
        for backend in on {
            assert_eq!(generator.generate_on(&seed, &mut program, *backend), result, "{number}");
            assert!(program.words() == wanted.words(), "{number} {backend}");
            assert!(program.memory() == wanted.memory(), "{number} {backend}");
        }
    }
}

#[test]
fn a_program_that_is_too_big_is_refused_everywhere() {
    let seed = seed(TOO_BIG);
    let mut program = Program::EMPTY;
    let mut expand = |num, out: &mut [u8]| expand(&seed, num, out);
    let plain = PlainGenerator::new().generate(&mut expand, &mut program);
    assert_eq!(plain, Err(ProgramError::TooBig));
    for backend in Backend::available() {
        let result = Generator::new().generate_on(&seed, &mut program, backend);
        assert_eq!(result, Err(ProgramError::TooBig), "{backend}");
        assert!(program.words().is_empty());
        // What a failure leaves behind does no harm.
        let mut generator = Generator::new();
        assert!(generator.generate_on(&seed, &mut program, backend).is_err());
        assert_eq!(generator.generate_on(&self::seed(1), &mut program, backend), Ok(()));
    }
}
