//! Each form of each instruction against an independent decoder.

use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use iced_x86::{Decoder, DecoderOptions, OpKind, Register};

use super::*;

/// The instructions of some code, each as `name operand, operand, ...`.
fn decoded(bytes: &[u8]) -> Vec<String> {
    let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
    let mut texts = Vec::new();
    for instruction in &mut decoder {
        assert!(!instruction.is_invalid(), "{bytes:02x?}");
        let operand = |number| match instruction.op_kind(number) {
            OpKind::Register => format!("{:?}", instruction.op_register(number)),
            OpKind::Memory => {
                assert_eq!(instruction.memory_index_scale(), 1);
                let base = instruction.memory_base();
                let at = instruction.memory_displacement64();
                match instruction.memory_index() {
                    Register::None => format!("[{base:?}+{at:x}]"),
                    index => format!("[{base:?}+{index:?}+{at:x}]"),
                }
            }
            OpKind::NearBranch64 => format!("{:x}", instruction.near_branch64()),
            _ => format!("{:x}", instruction.immediate(number)),
        };
        let operands: Vec<String> = (0..instruction.op_count()).map(operand).collect();
        let mask = match instruction.op_mask() {
            Register::None => String::new(),
            mask => format!(" {mask:?} zeroing {}", instruction.zeroing_masking()),
        };
        let name = format!("{:?}", instruction.mnemonic());
        texts.push(format!("{name} {}{mask}", operands.join(", ")).to_lowercase());
    }
    texts
}

fn emitted(is_evex: bool, emit: impl FnOnce(&mut Code<'_>)) -> Vec<String> {
    let mut bytes = vec![0; 256];
    let mut code = Code::new(&mut bytes, is_evex);
    emit(&mut code);
    let len = code.finished_len().unwrap();
    decoded(&bytes[..len])
}

#[track_caller]
fn check(is_evex: bool, emit: impl FnOnce(&mut Code<'_>), wanted: &str) {
    assert_eq!(emitted(is_evex, emit), [wanted.trim()], "EVEX: {is_evex}");
}

fn name_of(vector: Vector, width: Width) -> String {
    let class = match width {
        Width::X128 => "xmm",
        Width::Y256 => "ymm",
        Width::Z512 => "zmm",
    };
    format!("{class}{}", vector.0)
}

fn general_name(general: General) -> String {
    let names = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
    match names.get(usize::from(general.0)) {
        Some(name) => name.to_string(),
        None => format!("r{}d", general.0),
    }
}

fn place_name(place: Place) -> String {
    match place.index {
        None => format!("[rbx+{:x}]", place.at),
        Some(index) => {
            let name = general_name(index);
            let wide = match name.strip_suffix('d') {
                Some(numbered) if name.starts_with('r') => numbered.to_string(),
                _ => name.replacen('e', "r", 1),
            };
            format!("[rbx+{wide}+{:x}]", place.at)
        }
    }
}

fn widths(is_evex: bool) -> &'static [Width] {
    if is_evex { &[Width::X128, Width::Z512] } else { &[Width::X128, Width::Y256] }
}

fn vectors(is_evex: bool) -> &'static [u8] {
    if is_evex { &[0, 5, 8, 13, 16, 21, 31] } else { &[0, 5, 8, 15] }
}

fn generals() -> impl Iterator<Item = General> {
    [0, 1, 2, 3, 6, 8, 9, 10, 11].into_iter().map(General)
}

fn places() -> Vec<Place> {
    let indexes = generals().map(|index| indexed(0x1234_5678, index));
    [place(0x40), place(0x0765_4320)].into_iter().chain(indexes).collect()
}

fn sources(is_evex: bool) -> Vec<Source> {
    let registers = vectors(is_evex).iter().map(|number| Vector(*number).into());
    registers.chain(places().into_iter().map(Source::from)).collect()
}

fn source_name(source: Source, width: Width) -> String {
    match source {
        Source::Vector(vector) => name_of(vector, width),
        Source::Place(place) => place_name(place),
    }
}

/// The name in the encoding: logical instructions have a lane width in EVEX.
fn mnemonic(name: &str, is_evex: bool) -> String {
    let lane = if is_evex && ["PAND", "POR", "PXOR"].contains(&name) { "d" } else { "" };
    format!("v{}{lane}", name.to_lowercase())
}

/// For both encodings, each width and each first register.
fn for_each(mut with: impl FnMut(bool, Width, Vector)) {
    for is_evex in [false, true] {
        for width in widths(is_evex) {
            for number in vectors(is_evex) {
                with(is_evex, *width, Vector(*number));
            }
        }
    }
}

#[test]
fn operations() {
    for_each(|is_evex, width, to| {
        for (name, instruction) in NAMED {
            let name = mnemonic(name, is_evex);
            for source in sources(is_evex) {
                for first in vectors(is_evex) {
                    let first = Vector(*first);
                    let operands =
                        [name_of(to, width), name_of(first, width), source_name(source, width)];
                    let wanted = format!("{name} {}", operands.join(", "));
                    check(is_evex, |code| code.op(*instruction, width, to, first, source), &wanted);
                }
            }
        }
    });
}

#[test]
fn shifts_and_shuffles() {
    for_each(|is_evex, width, to| {
        for from in vectors(is_evex) {
            let from = Vector(*from);
            let operands = format!("{}, {}", name_of(to, width), name_of(from, width));
            for (name, shift) in NAMED_SHIFTS {
                let wanted = format!("{} {operands}, d", mnemonic(name, is_evex));
                check(is_evex, |code| code.shift(*shift, width, to, from, 13), &wanted);
            }
            let wanted = format!("vpshufd {operands}, d8");
            check(is_evex, |code| code.shuffle_words(width, to, from, 0xd8), &wanted);
            for source in sources(is_evex) {
                let wanted = format!("vshufps {operands}, {}, 88", source_name(source, width));
                let emit = |code: &mut Code<'_>| {
                    code.op_immediate(SHUFPS, width, to, from, source, 0x88);
                };
                check(is_evex, emit, &wanted);
            }
        }
    });
}

#[test]
fn moves() {
    for_each(|is_evex, width, vector| {
        let aligned = if is_evex { "vmovdqa32" } else { "vmovdqa" };
        let name = name_of(vector, width);
        for source in sources(is_evex) {
            let wanted = format!("{aligned} {name}, {}", source_name(source, width));
            check(is_evex, |code| code.load(width, vector, source), &wanted);
        }
        for place in places() {
            let at = place_name(place);
            let wanted = format!("{aligned} {at}, {name}");
            check(is_evex, |code| code.store(width, place, vector), &wanted);
        }
        if width == Width::X128 {
            return;
        }
        let low = name_of(vector, Width::X128);
        for general in [RAX, RCX, General(3)] {
            let texts = emitted(is_evex, |code| code.broadcast(width, vector, general));
            let from = general_name(general);
            let wanted = [format!("vmovd {low}, {from}"), format!("vpbroadcastd {name}, {low}")];
            assert_eq!(texts, wanted);
        }
    });
}

#[test]
fn masks() {
    for number in vectors(false) {
        let vector = Vector(*number);
        for general in [RAX, RCX, General(6)] {
            let wanted = format!("vmovmskps {}, ymm{number}", general_name(general));
            check(false, |code| code.signs(general, vector), &wanted);
        }
        for source in sources(false) {
            let from = source_name(source, Width::Y256);
            let wanted = format!("vpcmpeqd ymm{number}, ymm3, {from}");
            let emit = |code: &mut Code<'_>| {
                code.op(PCMPEQD, Width::Y256, vector, Vector(3), source);
            };
            check(false, emit, &wanted);
        }
    }
    for number in vectors(true) {
        let vector = Vector(*number);
        for place in places() {
            for general in [RAX, RCX, General(6)] {
                let (at, general_name) = (place_name(place), general_name(general));
                assert_eq!(
                    emitted(true, |code| code.test(general, vector, place)),
                    [
                        format!("vptestmd k1, zmm{number}, {at}"),
                        format!("kmovw {general_name}, k1")
                    ]
                );
                assert_eq!(
                    emitted(true, |code| code.load_lanes(vector, place, general)),
                    [
                        format!("kmovw k1, {general_name}"),
                        format!("vmovdqa32 zmm{number}, {at} k1 zeroing true")
                    ]
                );
            }
        }
    }
}

#[test]
fn general_registers() {
    for is_evex in [false, true] {
        for place in places() {
            let at = place_name(place);
            for general in generals() {
                let name = general_name(general);
                check(is_evex, |c| c.load_word(general, place), &format!("mov {name}, {at}"));
                check(is_evex, |c| c.store_word(place, general), &format!("mov {at}, {name}"));
                check(is_evex, |c| c.and_word(general, place), &format!("and {name}, {at}"));
                let wanted = format!("imul {name}, {at}, 1e0");
                check(is_evex, |c| c.multiply_word(general, place, 0x1e0), &wanted);
            }
            check(is_evex, |c| c.set_word(place, 0x1234), &format!("mov {at}, 1234"));
            check(is_evex, |c| c.increment_word(place), &format!("inc {at}"));
            check(is_evex, |c| c.compare_word(place, 2047), &format!("cmp {at}, 7ff"));
            check(is_evex, |c| c.test_word(place, 7), &format!("test {at}, 7"));
            check(is_evex, |c| c.call(place), &format!("call {at}"));
        }
        for to in generals() {
            let name = general_name(to);
            for from in generals() {
                let other = general_name(from);
                check(is_evex, |c| c.move_general(to, from), &format!("mov {name}, {other}"));
                check(is_evex, |c| c.xor(to, from), &format!("xor {name}, {other}"));
            }
            check(is_evex, |c| c.test_general(to), &format!("test {name}, {name}"));
            check(is_evex, |c| c.add_constant(to, 0x12345), &format!("add {name}, 12345"));
            check(is_evex, |c| c.and_constant(to, 0x1fe0), &format!("and {name}, 1fe0"));
            check(is_evex, |c| c.compare_constant(to, 0x1000), &format!("cmp {name}, 1000"));
            check(is_evex, |c| c.xor_constant(to, 0xff), &format!("xor {name}, ff"));
        }
    }
}

#[test]
fn jumps() {
    let texts = emitted(false, |code| {
        code.enter();
        code.set_frame_argument();
        code.set_argument(0x1234);
        let start = code.here();
        let forward = code.jump_if(Condition::Zero);
        let over = code.jump();
        code.land(forward);
        code.jump_back(Condition::Below, start);
        code.land(over);
        code.leave();
    });
    let wanted = [
        "push rbx",
        "mov rbx, rdi",
        "mov rdi, rbx",
        "mov esi, 1234",
        "je 17",
        "jmp 1d",
        "jb c",
        "pop rbx",
        "vzeroupper",
        "ret",
    ];
    let trimmed: Vec<&str> = texts.iter().map(|text| text.trim()).collect();
    assert_eq!(trimmed, wanted);
}

#[test]
fn what_does_not_fit_is_noted() {
    let mut bytes = [0; 40];
    let mut code = Code::new(&mut bytes, false);
    code.enter();
    assert_eq!(code.finished_len(), Some(4));
    (0..40).for_each(|_| code.enter());
    assert_eq!(code.finished_len(), None);
}
