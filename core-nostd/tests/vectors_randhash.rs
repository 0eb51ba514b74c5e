//! The vectors of the byte expander, the program generator, the instruction set and the
//! interpreter.

use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::{CYCLES, INSNS_MAX};
use packetcrypt_core::primitives::{compress32, expand};
use packetcrypt_core::randhash::{
    Execute, Generator, Interpreter, Program, VARIABLES_MAX, Watch, opcode,
};
use packetcrypt_core::{ExecError, ProgramError};
use packetcrypt_vectors::values::{list, number, text, words};
use packetcrypt_vectors::{files, unhex, unhex_array};
use serde_json::Value;

/// Records what happens.
#[derive(Default)]
struct Trace {
    draws: Vec<u64>,
    values: Vec<u32>,
}

impl Watch for Trace {
    fn emitted(&mut self, draws: u64) {
        self.draws.push(draws);
    }

    fn appended(&mut self, value: u32) {
        self.values.push(value);
    }
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn state_of(seed: &[u8; 32], num: u64) -> State {
    let mut state = State::ZERO;
    expand(seed, u32::try_from(num).expect("a number of the expander"), &mut state.0);
    state
}

fn generated(seed: &[u8; 32]) -> Result<Program, ProgramError> {
    let mut program = Program::EMPTY;
    Generator::new().generate(seed, &mut program).map(|()| program)
}

/// Runs the two cycles of an item and returns the executed words of each.
fn run(program: &Program, item: u64, state: &mut State) -> Result<Vec<u64>, ExecError> {
    let mut interpreter = Interpreter::new();
    (0..CYCLES)
        .map(|cycle| {
            interpreter
                .interpret_cycle(program.words(), program.window(item), state, cycle, &mut ())
                .map(u64::from)
        })
        .collect()
}

/// One entry of `runs`: [item, n, ops, ops, hash of the state] or [item, n, code].
fn check_run(program: &Program, seed: &[u8; 32], entry: &Value) {
    let entry = list(entry);
    let (item, num) = (number(&entry[0]), number(&entry[1]));
    let mut state = state_of(seed, num);
    let result = run(program, item, &mut state);
    if let [_, _, code] = entry {
        assert_eq!(Some(i64::from(result.unwrap_err().code())), code.as_i64());
        return;
    }
    assert_eq!(result, Ok(vec![number(&entry[2]), number(&entry[3])]), "executed words");
    assert_eq!(compress32(&state.0).hex().to_string(), text(&entry[4]), "state");

    let mut again = [state_of(seed, num)];
    Interpreter::new().run(program, &[item], &mut again, CYCLES).unwrap();
    assert_eq!(again[0].0, state.0, "through Execute");
}

#[test]
fn expander() {
    for file in files("randhash", "expand", "json") {
        let json = file.json();
        let cases = list(&json["cases"]);
        for case in cases {
            let mut out = vec![0; number(&case["len"]) as usize];
            expand(&unhex_array(text(&case["key"])), number(&case["num"]) as u32, &mut out);
            if let Some(whole) = case.get("out") {
                assert_eq!(out, unhex(text(whole)));
                continue;
            }
            assert_eq!(out[..64], unhex(text(&case["first64"]))[..]);
            assert_eq!(out[out.len() - 64..], unhex(text(&case["last64"]))[..]);
            assert_eq!(compress32(&out).hex().to_string(), text(&case["blake2b256"]));
        }
        file.report(cases.len());
    }
}

#[test]
fn draws() {
    for file in files("randhash", "draws", "json") {
        let json = file.json();
        let cases = json.as_array().cloned().unwrap_or_else(|| vec![json.clone()]);
        for case in &cases {
            let seed = unhex_array(text(&case["seed"]));
            // The stream is that of the expander with the block number in the nonce.
            for (block, wanted) in words(text(&case["words"])).chunks(16).enumerate() {
                let mut out = [0; 64];
                expand(&seed, block as u32, &mut out);
                assert_eq!(out[..4 * wanted.len()], bytes_of(wanted)[..]);
            }
        }
        file.report(cases.len());
    }
}

#[test]
fn immediates() {
    for file in files("randhash", "immediates", "json") {
        let json = file.json();
        let cases = list(&json["cases"]);
        for case in cases {
            let (word, value) = text(case).split_once(" > ").expect("word > value");
            let word = u32::from_str_radix(word.trim(), 16).unwrap();
            let value = u64::from_str_radix(value.trim(), 16).unwrap();
            assert_eq!(opcode::immediate(word), value, "{word:08x}");
        }
        file.report(cases.len());
    }
}

/// Runs an operation over inputs, in a program of one loop that reads them with IN.
fn compute(code: u8, inputs: &[u32]) -> Vec<u32> {
    let mut program = vec![1 << 20 | u32::from(opcode::LOOP)];
    program.extend((0..inputs.len() as u32).map(|i| i << 20 | u32::from(opcode::IN)));
    // Register 0 is the MARK. One operand: register 1; two: 1 and 2; two pairs: 1-2 and 3-4.
    let (a, b) = if inputs.len() == 4 { (2, 4) } else { (1, 2) };
    let b = if inputs.len() == 1 { 0 } else { b };
    program.push(b << opcode::REG_B_SHIFT | a << opcode::REG_A_SHIFT | u32::from(code));
    program.push(u32::from(opcode::END));

    let mut state = State::ZERO;
    for (at, input) in inputs.iter().enumerate() {
        state.0[4 * at..4 * at + 4].copy_from_slice(&input.to_le_bytes());
    }
    let mut trace = Trace::default();
    let executed =
        Interpreter::new().interpret_cycle(&program, &[0; 256], &mut state, 0, &mut trace);
    assert_eq!(executed, Ok(program.len() as u32));
    // Everything on the stack was also added to the zeroed output half.
    assert_eq!(state.0[1024..1024 + 4 * trace.values.len()], bytes_of(&trace.values)[..]);
    trace.values.split_off(inputs.len())
}

#[test]
fn operations() {
    for file in files("randhash", "ops", "json") {
        let json = file.json();
        let mut count = 0;
        for op in list(&json["ops"]) {
            let code = u8::try_from(number(&op["op"])).unwrap();
            assert_eq!(opcode::name(code), Some(text(&op["name"])));
            for case in list(&op["cases"]) {
                let (inputs, outputs) = text(case).split_once(" > ").expect("inputs > outputs");
                let inputs = words(inputs);
                assert_eq!(inputs.len() as u64, number(&op["inputs"]));
                assert_eq!(compute(code, &inputs), words(outputs), "{op:?} {case}");
                count += 1;
            }
        }
        file.report(count);
    }
}

/// A limit of exactly the length succeeds, one less fails.
fn check_boundary(seed: &[u8; 32], len: usize) {
    let mut program = Program::EMPTY;
    assert_eq!(Generator::with_limit(len).generate(seed, &mut program), Ok(()));
    let failed = Generator::with_limit(len - 1).generate(seed, &mut program);
    assert_eq!(failed, Err(ProgramError::TooBig));
    assert!(program.words().is_empty(), "a failure leaves no program");
}

#[test]
fn programs() {
    for file in files("randhash", "programs", "json") {
        let json = file.json();
        let cases = list(&json["programs"]);
        for case in cases {
            let seed = unhex_array(text(&case["seed"]));
            let program = generated(&seed).expect("a program");
            assert_eq!(program.words().len() as u64, number(&case["len"]));
            let hash = |words: &[u32]| compress32(&bytes_of(words)).hex().to_string();
            assert_eq!(hash(program.words()), text(&case["program"]));
            assert_eq!(hash(program.memory()), text(&case["memory"]));
            check_boundary(&seed, program.words().len());
            for entry in case.get("runs").map_or(&[][..], list) {
                check_run(&program, &seed, entry);
            }
        }
        file.report(cases.len());
    }
}

#[test]
fn whole_programs() {
    for file in files("randhash", "programs-full", "json") {
        let json = file.json();
        let cases = list(&json["programs"]);
        for case in cases {
            let program = generated(&unhex_array(text(&case["seed"]))).expect("a program");
            assert_eq!(program.words(), words(text(&case["words"])));
            assert_eq!(program.words().len() as u64, number(&case["len"]));
        }
        file.report(cases.len());
    }
}

#[test]
fn programs_too_big() {
    for file in files("randhash", "programs-too-big", "json") {
        let json = file.json();
        let cases = list(&json["programs"]);
        for case in cases {
            let seed = unhex_array(text(&case["seed"]));
            assert_eq!(generated(&seed).unwrap_err(), ProgramError::TooBig);
            assert_eq!(case["error"].as_i64(), Some(i64::from(ProgramError::TooBig.code())));
        }
        file.report(cases.len());
    }
}

/// The length that the README gives for the failing seed of the public set.
#[test]
fn the_failing_seed_has_2136_words_without_limit() {
    let text = "2694b10900000000000000000000000000000000000000000000000001efcdab";
    let generate = |words_max: usize| {
        let mut words = vec![0; words_max];
        let mut variables = vec![0; 2 * VARIABLES_MAX];
        Generator::generate_watched(&unhex_array(text), &mut words, &mut variables, &mut ())
    };
    assert_eq!(generate(2136), Ok(2136));
    assert_eq!(generate(2135), Err(ProgramError::TooBig));
    assert_eq!(generate(INSNS_MAX), Err(ProgramError::TooBig));
}

#[test]
fn synthetic_programs() {
    for file in files("randhash", "synthetic", "json") {
        let json = file.json();
        let cases = list(&json["programs"]);
        for case in cases {
            let seed = unhex_array(text(&case["seed"]));
            let mut program = Program::EMPTY;
            program.assemble(&seed, &words(text(&case["words"]))).unwrap();
            for entry in list(&case["runs"]) {
                check_run(&program, &seed, entry);
            }
        }
        file.report(cases.len());
    }
}

#[test]
fn whole_states() {
    for file in files("randhash", "states-full", "json") {
        let json = file.json();
        let runs = list(&json["runs"]);
        for case in runs {
            let program = generated(&unhex_array(text(&case["seed"]))).expect("a program");
            let item = number(&case["item"]);
            let mut state = State(unhex_array(text(&case["before"])));
            if let Some(item_seed) = case.get("item_seed") {
                let mut made = State::ZERO;
                made.init(&unhex_array(text(item_seed)), item);
                assert_eq!(made.0, state.0, "the initial state");
            }
            let executed = run(&program, item, &mut state).expect("a good run");
            let wanted: Vec<u64> = list(&case["ops"]).iter().map(number).collect();
            assert_eq!(executed, wanted);
            assert_eq!(state.0[..], unhex(text(&case["after"]))[..]);
        }
        file.report(runs.len());
    }
}

#[test]
fn traces() {
    for file in files("randhash", "trace", "json") {
        let json = file.json();
        let cases = list(&json["traces"]);
        for case in cases {
            let seed = unhex_array(text(&case["seed"]));
            let mut trace = Trace::default();
            let mut emitted = [0; INSNS_MAX];
            let mut variables = [0; VARIABLES_MAX];
            let len = Generator::generate_watched(&seed, &mut emitted, &mut variables, &mut trace)
                .unwrap();
            assert_eq!(emitted[..len], words(text(&case["words"]))[..]);
            let draws: Vec<u64> = list(&case["draws_before_emit"]).iter().map(number).collect();
            assert_eq!(trace.draws, draws);

            let program = generated(&seed).unwrap();
            let mut state = state_of(&seed, number(&case["state_num"]));
            let item = number(&case["item"]);
            let mut interpreter = Interpreter::new();
            for cycle in 0..CYCLES {
                let window = program.window(item);
                interpreter
                    .interpret_cycle(program.words(), window, &mut state, cycle, &mut trace)
                    .unwrap();
            }
            let values = &trace.values;
            assert_eq!(values.len() as u64, number(&case["values_total"]));
            let first = words(text(&case["first_values"]));
            let last = words(text(&case["last_values"]));
            assert_eq!(values[..first.len()], first);
            assert_eq!(values[values.len() - last.len()..], last);
            assert_eq!(compress32(&state.0).hex().to_string(), text(&case["after"]));
        }
        file.report(cases.len());
    }
}
