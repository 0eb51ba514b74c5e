//! A program of a seed, and any words as a program, over a state: nothing panics, nothing runs on,
//! and used registers make no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::{CYCLES, INSNS_MAX, OPS_MAX};
use packetcrypt_core::randhash::{Execute, Generator, Interpreter, Program};

fuzz_target!(|input: ([u8; 32], u64, Vec<u32>)| {
    let (seed, item, words) = input;
    let mut program = Program::EMPTY;
    let mut used = Interpreter::new();
    if program.assemble(&seed, &words[..words.len().min(INSNS_MAX)]).is_ok() {
        let mut state = State::ZERO;
        state.init(&seed, item);
        let window = *program.window(item);
        let executed = used.interpret_cycle(program.words(), &window, &mut state, 0, &mut ());
        assert!(executed.is_ok_and(|count| count <= OPS_MAX) || executed.is_err());
    }
    if Generator::new().generate(&seed, &mut program).is_ok() {
        let run = |interpreter: &mut Interpreter| {
            let mut state = [State::ZERO];
            state[0].init(&seed, item);
            interpreter.run(&program, &[item], &mut state, CYCLES).map(|()| state[0].0)
        };
        assert_eq!(run(&mut used), run(&mut Interpreter::new()));
    }
});
