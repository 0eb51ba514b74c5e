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
    [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12].into_iter().map(General)
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

/// The names of a register with 32 and with 64 bits.
fn names_of(general: General) -> [(Bits, String); 2] {
    let wide = place_name(indexed(0, general)).split('+').nth(1).unwrap().to_string();
    [(Bits::B32, general_name(general)), (Bits::B64, wide)]
}

const ARITHMETIC: [(Arithmetic, &str); 5] = [
    (Arithmetic::Add, "add"),
    (Arithmetic::Or, "or"),
    (Arithmetic::And, "and"),
    (Arithmetic::Sub, "sub"),
    (Arithmetic::Xor, "xor"),
];

const ROTATIONS: [(Rotation, &str); 5] = [
    (Rotation::RotateLeft, "rol"),
    (Rotation::RotateRight, "ror"),
    (Rotation::Left, "shl"),
    (Rotation::Right, "shr"),
    (Rotation::RightSigned, "sar"),
];

#[test]
fn general_registers_and_memory() {
    let check = |emit: &dyn Fn(&mut Code<'_>), wanted: &str| check(false, emit, wanted);
    for place in places() {
        let at = place_name(place);
        for general in generals() {
            let [(_, name), (_, wide)] = names_of(general);
            check(&|c| c.load_word(general, place), &format!("mov {name}, {at}"));
            check(&|c| c.load_signed(general, place), &format!("movsxd {wide}, {at}"));
            check(&|c| c.store_word(place, general), &format!("mov {at}, {name}"));
            check(&|c| c.store_pair(place, general), &format!("mov {at}, {wide}"));
            check(&|c| c.add_to_word(place, general), &format!("add {at}, {name}"));
            for (arithmetic, operation) in ARITHMETIC {
                let wanted = format!("{operation} {name}, {at}");
                check(&|c| c.apply_word(arithmetic, general, place), &wanted);
            }
            let wanted = format!("imul {name}, {at}, 1e0");
            check(&|c| c.multiply_word(general, place, 0x1e0), &wanted);
        }
        check(&|c| c.set_word(place, 0x1234), &format!("mov {at}, 1234"));
        check(&|c| c.increment_word(place), &format!("inc {at}"));
        check(&|c| c.compare_word(place, 2047), &format!("cmp {at}, 7ff"));
        check(&|c| c.test_word(place, 7), &format!("test {at}, 7"));
        check(&|c| c.call(place), &format!("call {at}"));
    }
}

#[test]
fn general_registers() {
    let check = |emit: &dyn Fn(&mut Code<'_>), wanted: &str| check(false, emit, wanted);
    for to in generals() {
        for (bits, name) in names_of(to) {
            for from in generals() {
                let other = names_of(from).into_iter().find(|other| other.0 == bits).unwrap().1;
                let wanted = format!("mov {name}, {other}");
                check(&|c| c.move_general(to, from, bits), &wanted);
                let wanted = format!("imul {name}, {other}");
                check(&|c| c.multiply(to, from, bits), &wanted);
                for (arithmetic, operation) in ARITHMETIC {
                    let wanted = format!("{operation} {name}, {other}");
                    check(&|c| c.apply_general(arithmetic, to, from, bits), &wanted);
                }
            }
            for (rotation, operation) in ROTATIONS {
                let wanted = format!("{operation} {name}, d");
                check(&|c| c.rotate(rotation, to, bits, 13), &wanted);
                let wanted = format!("{operation} {name}, cl");
                check(&|c| c.rotate_by_rcx(rotation, to, bits), &wanted);
            }
        }
        let [(_, name), (_, wide)] = names_of(to);
        for (arithmetic, operation) in ARITHMETIC {
            let wanted = format!("{operation} {name}, 12345");
            check(&|c| c.apply_constant(arithmetic, to, 0x12345), &wanted);
        }
        check(&|c| c.set_general(to, 0x8765_4321), &format!("mov {name}, 87654321"));
        let wanted = format!("mov {wide}, fedcba9876543210");
        check(&|c| c.set_general(to, 0xfedc_ba98_7654_3210), &wanted);
        check(&|c| c.test_general(to), &format!("test {name}, {name}"));
        check(&|c| c.compare_constant(to, 0x1000), &format!("cmp {name}, 1000"));
        check(&|c| c.swap_bytes(to), &format!("bswap {name}"));
        check(&|c| c.spread_carry(to), &format!("sbb {wide}, {wide}"));
        check(&|c| c.negate(to), &format!("neg {wide}"));
        check(&|c| c.multiply_whole(to, false), &format!("mul {wide}"));
        check(&|c| c.multiply_whole(to, true), &format!("imul {wide}"));
    }
}

#[test]
fn low_lanes() {
    for number in vectors(false) {
        let vector = Vector(*number);
        let name = name_of(vector, Width::X128);
        for place in places() {
            let at = place_name(place);
            let wanted = format!("vmovd {name}, {at}");
            check(false, |code| code.load_low(vector, Ok(place)), &wanted);
            let wanted = format!("vmovdqu {name}, {at}");
            check(false, |code| code.load_any(Width::X128, vector, place), &wanted);
            let wanted = format!("vmovdqu {at}, {name}");
            check(false, |code| code.store_any(Width::X128, place, vector), &wanted);
            check(false, |code| code.store_low(place, vector), &format!("vmovd {at}, {name}"));
            check(false, |code| code.store_low_pair(place, vector), &format!("vmovq {at}, {name}"));
        }
        for general in [RAX, RCX, General(6)] {
            let wanted = format!("vmovd {name}, {}", general_name(general));
            check(false, |code| code.load_low(vector, Err(general)), &wanted);
        }
        for (conversion, instruction) in CONVERSIONS {
            for from in vectors(false) {
                let other = name_of(Vector(*from), Width::X128);
                let wanted = format!("v{} {name}, {other}", conversion.to_lowercase());
                let emit = |code: &mut Code<'_>| {
                    code.convert(*instruction, Width::X128, vector, Vector(*from));
                };
                check(false, emit, &wanted);
            }
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
        code.enter_keeping();
        code.leave_keeping();
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
        "push rbx",
        "push r12",
        "push rax",
        "mov rbx, rdi",
        "pop rcx",
        "pop r12",
        "pop rbx",
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
