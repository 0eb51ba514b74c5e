//! A program of a seed, and any words as a program: every executor gives what the interpreter gives.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use packetcrypt_core::Backend;
use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::{CYCLES, INSNS_MAX};
use packetcrypt_core::randhash::{Execute, Generator, Interpreter, LanesInterpreter, Program};
use packetcrypt_jit::Jit;

thread_local! {
    /// Made once: used memory makes no difference.
    static EXECUTORS: RefCell<Vec<Box<dyn Execute>>> = RefCell::new(
        Backend::available()
            .flat_map(|backend| {
                let lanes: Box<dyn Execute> = Box::new(LanesInterpreter::new(backend));
                let jit = Jit::new(backend).ok().map(|jit| Box::new(jit) as Box<dyn Execute>);
                [Some(lanes), jit].into_iter().flatten()
            })
            .collect(),
    );
}

fn compare(program: &Program, seed: &[u8; 32], first: u64, count: usize) {
    let items: Vec<u64> = (first >> 1..).take(count).collect();
    let states: Vec<State> = items
        .iter()
        .map(|item| {
            let mut state = State::ZERO;
            state.init(seed, *item);
            state
        })
        .collect();
    let mut plain = states.clone();
    let wanted = Interpreter::new().run(program, &items, &mut plain, CYCLES);
    EXECUTORS.with_borrow_mut(|executors| {
        for exec in executors {
            exec.load(program);
            let mut fast = states.clone();
            assert_eq!(exec.run(program, &items, &mut fast, CYCLES), wanted);
            if wanted.is_err() {
                continue;
            }
            assert!(fast.iter().zip(&plain).all(|(fast, plain)| fast.0 == plain.0));
            // A compiler has other code for a single item.
            if let (Some(plain), [item, ..]) = (plain.first(), &items[..]) {
                let mut fast = states[0].clone();
                assert_eq!(
                    exec.run(program, &[*item], core::slice::from_mut(&mut fast), CYCLES),
                    Ok(())
                );
                assert!(fast.0 == plain.0);
            }
        }
    });
}

fuzz_target!(|input: ([u8; 32], u64, u8, Vec<u32>)| {
    let (seed, first, count, words) = input;
    let count = usize::from(count % 20);
    let mut program = Program::EMPTY;
    if program.assemble(&seed, &words[..words.len().min(INSNS_MAX)]).is_ok() {
        compare(&program, &seed, first, count);
    }
    if Generator::new().generate(&seed, &mut program).is_ok() {
        compare(&program, &seed, first, count);
    }
});
