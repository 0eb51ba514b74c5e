//! Every executor on every back end gives what the interpreter gives: on the vectors, for each
//! operation, and for random programs.

mod hostile;

use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::{CYCLES, OPS_MAX};
use packetcrypt_core::primitives::expand;
use packetcrypt_core::randhash::opcode::{self as op, Class};
use packetcrypt_core::randhash::{
    Execute, Generator, Interpreter, LanesInterpreter, Planned, Program,
};
use packetcrypt_core::{Backend, ExecError};
use packetcrypt_jit::{Jit, JitError};
use packetcrypt_vectors::values::{list, number, text, words};
use packetcrypt_vectors::{files, unhex, unhex_array};

/// Random programs that are compared, with 16 items each: fewer where nothing is optimised.
const PROGRAMS: u64 = if cfg!(debug_assertions) { 300 } else { 10_000 };
/// Set to compare another number of programs, and of operands in proportion: more each night, fewer in an
/// emulator.
const PROGRAMS_VARIABLE: &str = "PACKETCRYPT_PROGRAMS";
/// Programs for each set of operands that an operation is tried with, and the fewest such sets.
const PROGRAMS_AN_OPERAND: u64 = 50;
const OPERANDS_MIN: u64 = 10;
/// Items of one comparison.
const ITEMS: usize = 16;

/// An executor and what it is called in a failure.
struct Named {
    name: String,
    exec: Box<dyn Execute>,
    /// It has other code for a single item.
    has_single: bool,
}

fn programs() -> u64 {
    std::env::var(PROGRAMS_VARIABLE)
        .map_or(PROGRAMS, |text| text.parse().expect("a number of programs"))
}

fn executors(ops_max: u32) -> Vec<Named> {
    let compiled = Backend::available().filter_map(|backend| {
        let exec = match Jit::with_limit(backend, ops_max) {
            Ok(jit) => Box::new(jit),
            Err(JitError::Backend(_) | JitError::Architecture) => return None,
            Err(error) => panic!("{error}"),
        };
        Some(Named { name: format!("compiled for {backend}"), exec, has_single: true })
    });
    let lanes = Backend::available().map(|backend| Named {
        name: format!("lanes on {backend}"),
        exec: Box::new(LanesInterpreter::with_limit(backend, ops_max)),
        has_single: false,
    });
    compiled.chain(lanes).collect()
}

/// A program from words, over the memory of a seed of zeros.
fn assembled(words: &[u32]) -> Program {
    let mut program = Program::EMPTY;
    program.assemble(&[0; 32], words).expect("short enough");
    program
}

/// Runs a program with all executors, over all items at once and, where there is other code for that,
/// one by one; where the interpreter succeeds, all states must be its.
fn compare(
    executors: &mut [Named],
    program: &Program,
    items: &[u64],
    states: &[State],
    ops_max: u32,
) {
    let mut plain = states.to_vec();
    let wanted = Interpreter::with_limit(ops_max).run(program, items, &mut plain, CYCLES);
    for Named { name, exec, has_single } in executors {
        exec.load(program);
        let mut fast = states.to_vec();
        let result = exec.run(program, items, &mut fast, CYCLES);
        assert_eq!(result, wanted, "{name}: {:08x?}", program.words());
        if result.is_err() {
            continue;
        }
        assert_same(name, program, items, &fast, &plain);
        if *has_single {
            fast.clone_from_slice(states);
            for (item, state) in items.iter().zip(&mut fast) {
                let state = core::slice::from_mut(state);
                assert_eq!(exec.run(program, &[*item], state, CYCLES), Ok(()), "{name}");
            }
            assert_same(&format!("{name} one by one"), program, items, &fast, &plain);
        }
    }
}

fn assert_same(name: &str, program: &Program, items: &[u64], fast: &[State], plain: &[State]) {
    for (lane, (fast, plain)) in fast.iter().zip(plain).enumerate() {
        let differs = fast.0.iter().zip(&plain.0).position(|(fast, plain)| fast != plain);
        assert_eq!(
            differs,
            None,
            "{name}, item {} (lane {lane} of {}): {:08x?}",
            items[lane],
            items.len(),
            program.words()
        );
    }
}

/// A simple stream of numbers.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn state(&mut self) -> State {
        let mut state = State::ZERO;
        for chunk in state.0.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        state
    }

    /// An operand: often one at the edges of some lane width.
    fn operand(&mut self) -> u32 {
        const EDGES: [u32; 16] = [
            0,
            1,
            7,
            8,
            15,
            16,
            31,
            32,
            63,
            0x7f,
            0x80,
            0x7fff,
            0x8000,
            0x7fff_ffff,
            0x8000_0000,
            u32::MAX,
        ];
        let random = self.next();
        match random % 4 {
            0 => (random >> 32) as u32,
            1 => EDGES[self.below(16) as usize],
            2 => u32::from_le_bytes(core::array::from_fn(|_| EDGES[self.below(16) as usize] as u8)),
            _ => EDGES[self.below(16) as usize] << 16 | EDGES[self.below(16) as usize] & 0xffff,
        }
    }
}

fn state_of_words(words: impl Iterator<Item = u32>) -> State {
    let mut state = State::ZERO;
    for (chunk, word) in state.0.chunks_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    state
}

/// A program that reads four words, does an operation on the first and the second two, or on the
/// first and the second, and outputs all. `b`: the fields of operand B.
fn one_operation(code: u8, b: Option<u32>) -> Program {
    let class = Class::of(code).expect("an operation");
    let is_pair = matches!(class, Class::Op4To2 | Class::Op4To4);
    let mut program = vec![2 << 20 | u32::from(op::LOOP)];
    program.extend((0..4).map(|i| i << 20 | u32::from(op::IN)));
    let (a, register) = if is_pair { (2, 4 << op::REG_B_SHIFT) } else { (1, 2 << op::REG_B_SHIFT) };
    program.push(b.unwrap_or(register) | a << op::REG_A_SHIFT | u32::from(code));
    program.push(u32::from(op::END));
    assembled(&program)
}

#[test]
fn operations_of_the_vectors() {
    let mut executors = executors(OPS_MAX);
    for file in files("randhash", "ops", "json") {
        let json = file.json();
        let mut count = 0;
        for operation in list(&json["ops"]) {
            let code = u8::try_from(number(&operation["op"])).unwrap();
            let program = one_operation(code, None);
            let cases: Vec<_> = list(&operation["cases"])
                .iter()
                .map(|case| {
                    let (inputs, outputs) = text(case).split_once(" > ").expect("inputs > outputs");
                    (words(inputs), words(outputs))
                })
                .collect();
            for cases in cases.chunks(ITEMS) {
                let state = |(inputs, _): &(Vec<u32>, Vec<u32>)| {
                    state_of_words(inputs.iter().copied().chain(core::iter::repeat(0)).take(256))
                };
                let states: Vec<State> = cases.iter().map(state).collect();
                let items: Vec<u64> = (0..cases.len() as u64).collect();
                for Named { name, exec, .. } in &mut executors {
                    exec.load(&program);
                    let mut states = states.clone();
                    exec.run(&program, &items, &mut states, 1).unwrap();
                    for ((_, outputs), state) in cases.iter().zip(&states) {
                        let wanted = state_of_words(outputs.iter().copied());
                        let at = 1024 + 16;
                        let len = 4 * outputs.len();
                        assert_eq!(state.0[at..at + len], wanted.0[..len], "{name} {operation:?}");
                    }
                }
                compare(&mut executors, &program, &items, &states, OPS_MAX);
                count += cases.len();
            }
        }
        file.report(count);
    }
}

#[test]
fn operations_on_random_operands() {
    let rounds = programs().div_ceil(PROGRAMS_AN_OPERAND).max(OPERANDS_MIN);
    let mut numbers = Numbers(1);
    let mut executors = executors(OPS_MAX);
    let items: Vec<u64> = (0..ITEMS as u64).collect();
    for code in 1..op::IN {
        for _ in 0..rounds {
            let states: Vec<State> = (0..ITEMS)
                .map(|_| state_of_words(core::iter::repeat_with(|| numbers.operand()).take(512)))
                .collect();
            let immediate = numbers.next() as u32 & !op::PATTERN << 20 | op::HAS_IMM;
            let pattern = (numbers.next() as u32) << 20 | op::HAS_IMM | op::PATTERN;
            for b in [None, Some(immediate & 0xfff0_0000 | op::HAS_IMM), Some(pattern)] {
                compare(&mut executors, &one_operation(code, b), &items, &states, OPS_MAX);
            }
        }
    }
}

/// The limit of executed words is honoured to the word.
fn check_limit(program: &Program, item: u64, state: &State) {
    let executed = |cycle, state: &mut State| {
        let window = program.window(item);
        Interpreter::new().interpret_cycle(program.words(), window, state, cycle, &mut ())
    };
    let mut after = state.clone();
    let (Ok(first), Ok(second)) = (executed(0, &mut after), executed(1, &mut after)) else {
        return;
    };
    let most = first.max(second);
    for ops_max in [most - 1, most, most + 1] {
        let items: Vec<u64> = vec![item; 5];
        compare(&mut executors(ops_max), program, &items, &vec![state.clone(); 5], ops_max);
    }
}

#[test]
fn programs_of_the_vectors() {
    let mut executors = executors(OPS_MAX);
    let mut items = Vec::new();
    let mut states = Vec::new();
    for file in files("randhash", "programs", "json") {
        let json = file.json();
        let cases = list(&json["programs"]);
        for (at, case) in cases.iter().enumerate() {
            let seed = unhex_array(text(&case["seed"]));
            let mut program = Program::EMPTY;
            Generator::new().generate(&seed, &mut program).unwrap();
            items.clear();
            states.clear();
            for entry in case.get("runs").map_or(&[][..], list) {
                let mut state = State::ZERO;
                expand(&seed, number(&entry[1]) as u32, &mut state.0);
                items.push(number(&entry[0]));
                states.push(state);
            }
            compare(&mut executors, &program, &items, &states, OPS_MAX);
            if at % 16 == 0 && !items.is_empty() {
                check_limit(&program, items[0], &states[0]);
            }
        }
        file.report(cases.len());
    }
}

#[test]
fn synthetic_programs_of_the_vectors() {
    let mut executors = executors(OPS_MAX);
    for file in files("randhash", "synthetic", "json") {
        let json = file.json();
        let cases = list(&json["programs"]);
        for case in cases {
            let seed = unhex_array(text(&case["seed"]));
            let mut program = Program::EMPTY;
            program.assemble(&seed, &words(text(&case["words"]))).unwrap();
            for entry in list(&case["runs"]) {
                let mut state = State::ZERO;
                expand(&seed, number(&entry[1]) as u32, &mut state.0);
                for count in [1, 5, ITEMS] {
                    let items = vec![number(&entry[0]); count];
                    let states = vec![state.clone(); count];
                    compare(&mut executors, &program, &items, &states, OPS_MAX);
                }
            }
        }
        file.report(cases.len());
    }
}

#[test]
fn whole_states_of_the_vectors() {
    let mut executors = executors(OPS_MAX);
    for file in files("randhash", "states-full", "json") {
        let json = file.json();
        let runs = list(&json["runs"]);
        for case in runs {
            let mut program = Program::EMPTY;
            let seed = unhex_array(text(&case["seed"]));
            Generator::new().generate(&seed, &mut program).unwrap();
            let before = State(unhex_array(text(&case["before"])));
            for Named { name, exec, .. } in &mut executors {
                exec.load(&program);
                let mut states = vec![before.clone(); 4];
                let items = [number(&case["item"]); 4];
                exec.run(&program, &items, &mut states, CYCLES).unwrap();
                for state in &states {
                    assert!(state.0[..] == unhex(text(&case["after"]))[..], "{name}");
                }
            }
        }
        file.report(runs.len());
    }
}

/// Items that follow each other, also across the end of the windows, or are drawn.
fn some_items(numbers: &mut Numbers, count: usize) -> Vec<u64> {
    let first = match numbers.below(4) {
        0 => 1770 + numbers.below(30),
        1 => 8192 - count as u64,
        2 => numbers.next() >> 1,
        _ => numbers.below(8192 - 64),
    };
    if numbers.below(4) == 0 {
        return (0..count).map(|_| numbers.below(8192)).collect();
    }
    (first..).take(count).collect()
}

/// States that are all different, or alike in some lanes, or empty.
fn some_states(numbers: &mut Numbers, count: usize) -> Vec<State> {
    let same = numbers.state();
    let kind = numbers.below(5);
    (0..count)
        .map(|lane| match kind {
            0 => same.clone(),
            1 if lane % 3 == 0 => State::ZERO,
            _ => numbers.state(),
        })
        .collect()
}

fn compare_random_programs(seeds: core::ops::Range<u64>) {
    let mut executors = executors(OPS_MAX);
    let mut generator = Generator::new();
    let mut program = Program::EMPTY;
    for number in seeds {
        let mut numbers = Numbers(number);
        let mut seed = [0x5e; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        if generator.generate(&seed, &mut program).is_err() {
            continue;
        }
        let items = some_items(&mut numbers, ITEMS);
        let states = some_states(&mut numbers, ITEMS);
        // Portable code, the last, is slow.
        let count = executors.len() - usize::from(executors.len() > 1 && number % 8 != 0);
        compare(&mut executors[..count], &program, &items, &states, OPS_MAX);
    }
}

#[test]
fn random_programs() {
    let programs = programs();
    std::thread::scope(|scope| {
        scope.spawn(|| compare_random_programs(0..programs / 2));
        compare_random_programs(programs / 2..programs);
    });
}

#[test]
fn any_number_of_items() {
    let mut executors = executors(OPS_MAX);
    let mut program = Program::EMPTY;
    for count in 0..40 {
        let mut numbers = Numbers(count as u64);
        Generator::new().generate(&[count as u8; 32], &mut program).unwrap();
        let items = some_items(&mut numbers, count);
        let states = some_states(&mut numbers, count);
        compare(&mut executors, &program, &items, &states, OPS_MAX);
    }
}

/// Runs of several programs leave nothing behind, and each load counts.
#[test]
fn a_loaded_program_replaces_the_one_before() {
    let programs: Vec<Program> = (0..3)
        .map(|number| {
            let mut program = Program::EMPTY;
            Generator::new().generate(&[number; 32], &mut program).unwrap();
            program
        })
        .chain([assembled(&[2 << 20 | 66, 69, 70])])
        .collect();
    let mut executors = executors(OPS_MAX);
    let mut numbers = Numbers(3);
    for at in [0, 1, 3, 1, 2, 3, 0, 0] {
        for count in [1, 16] {
            let items = some_items(&mut numbers, count);
            let states = some_states(&mut numbers, count);
            compare(&mut executors, &programs[at], &items, &states, OPS_MAX);
        }
    }
}

/// Announced or not, by turns, more than are kept and more code than there is room for.
#[test]
fn programs_that_are_announced_are_run_by_turns() {
    let mut programs: Vec<Program> = (0..40)
        .map(|number| {
            let mut program = Program::EMPTY;
            Generator::new().generate(&[number; 32], &mut program).unwrap();
            program
        })
        .collect();
    programs.insert(5, assembled(&[2 << 20 | 66, 69, 70]));
    let mut executors = executors(OPS_MAX);
    let mut numbers = Numbers(4);
    for (announced, items, calls) in [(0..41, 1, 4), (0..16, 1, 1), (10..26, 20, 1), (0..6, 2, 1)] {
        let plan = |program| Planned { program, items, calls };
        let plans: Vec<Planned<'_>> = programs[announced].iter().map(plan).collect();
        executors.iter_mut().for_each(|named| named.exec.load_ahead(&plans));
        for _ in 0..24 {
            let program = &programs[numbers.below(18) as usize];
            let count = [1, 1, 2, 3, 9, 16, 17][numbers.below(7) as usize];
            let items = some_items(&mut numbers, count);
            let states = some_states(&mut numbers, count);
            compare(&mut executors, program, &items, &states, OPS_MAX);
        }
    }
}

#[test]
fn a_failing_item_fails_all() {
    // Runs too long where the first word of the input is odd.
    let words = [
        vec![2000 << 20 | 66, 64, 68 | 1 << 9 | 2 << 20, 69 | 14 << 8],
        vec![64; 12],
        vec![70, 69 | 1 << 8, 70, 70],
    ];
    let program = assembled(&words.concat());
    let mut numbers = Numbers(9);
    let states: Vec<State> = (0..ITEMS)
        .map(|lane| {
            let mut state = numbers.state();
            state.0[0] = state.0[0] & 0xfe | u8::from(lane == 11);
            state
        })
        .collect();
    let items: Vec<u64> = (0..ITEMS as u64).collect();
    let mut plain = states.clone();
    let result = Interpreter::new().run(&program, &items, &mut plain, 1);
    assert_eq!(result, Err(ExecError::TooLong));
    for Named { name, exec, .. } in &mut executors(OPS_MAX) {
        exec.load(&program);
        assert_eq!(exec.run(&program, &items, &mut states.clone(), 1), result, "{name}");
        let (items, states) = (&items[..11], &mut states.clone()[..11]);
        assert_eq!(exec.run(&program, items, states, 1), Ok(()), "{name}");
    }
}
