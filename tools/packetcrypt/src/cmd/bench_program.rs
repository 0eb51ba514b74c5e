//! `packetcrypt bench dump-program`: a random program as words and as machine code.

use std::fmt::Write;

use clap::Args;
use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};
use packetcrypt_core::Backend;
use packetcrypt_core::randhash::opcode::{self as op, Class};
use packetcrypt_core::randhash::{Generator, Program};
use packetcrypt_jit::Jit;

use crate::failure::Failure;

/// Print the random program of a seed and what it is compiled to
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  packetcrypt bench dump-program 01")]
pub(crate) struct DumpProgram {
    /// The seed: 64 hex digits, or fewer for one that ends with zeros
    seed: String,
    /// The code for a single item instead of that for many side by side
    #[arg(long)]
    one: bool,
}

impl DumpProgram {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut program = Program::EMPTY;
        Generator::new().generate(&self.seed()?, &mut program).map_err(Failure::failed)?;
        let mut text = String::new();
        list_words(&mut text, program.words()).map_err(Failure::failed)?;
        let mut jit = Jit::new(Backend::best()).map_err(|error| {
            print!("{text}");
            Failure::failed(error)
        })?;
        match jit.machine_code(&program, self.one) {
            Some(code) => list_code(&mut text, code).map_err(Failure::failed)?,
            None => text.push_str("\nnot compiled: interpreted\n"),
        }
        print!("{text}");
        Ok(())
    }

    fn seed(&self) -> Result<[u8; 32], Failure> {
        let wrong = || Failure::usage(format!("seed {:?}: want up to 64 hex digits", self.seed));
        let bytes = hex::decode(&self.seed).map_err(|_| wrong())?;
        let mut seed = [0; 32];
        seed.get_mut(..bytes.len()).ok_or_else(wrong)?.copy_from_slice(&bytes);
        Ok(seed)
    }
}

/// The words with their fields, indented by scope.
fn list_words(out: &mut String, words: &[u32]) -> std::fmt::Result {
    let mut depth = 0_usize;
    for (at, word) in words.iter().copied().enumerate() {
        let code = op::opcode(word);
        if code == op::END {
            depth = depth.saturating_sub(1);
        }
        let name = op::name(code).unwrap_or("?");
        write!(out, "{at:4}  {word:08x}  {:1$}{name}", "", 2 * depth)?;
        match code {
            op::IN => write!(out, " {}", op::immediate(word) as u8)?,
            op::MEMORY => {
                let (base, step, carry) = (op::base(word), op::step(word), op::carry(word));
                write!(out, " base {base} step {step} carry {carry}")?;
            }
            op::LOOP => write!(out, " {}", op::immediate(word) as i64)?,
            op::IF_LIKELY | op::IF_RANDOM => write!(out, " r{}", op::reg_a(word))?,
            op::JMP => write!(out, " {}", at + 1 + op::jump(word))?,
            op::END => {}
            _ => {
                write!(out, " r{}", op::reg_a(word))?;
                let has_b = Class::of(code).is_some_and(|class| class != Class::Op1To1);
                match op::has_imm(word) {
                    true if has_b => write!(out, ", {}", op::immediate(word) as i64)?,
                    false if has_b => write!(out, ", r{}", op::reg_b(word))?,
                    _ => {}
                }
            }
        }
        writeln!(out)?;
        depth += usize::from(matches!(code, op::LOOP | op::IF_LIKELY | op::IF_RANDOM));
        // The jump over the false side ends the true one, and the false side follows.
        depth += usize::from(code == op::JMP && at > 0 && op::opcode(words[at - 1]) == op::END);
    }
    Ok(())
}

fn list_code(out: &mut String, code: &[u8]) -> std::fmt::Result {
    writeln!(out, "\n{} bytes; rdi is the frame", code.len())?;
    let mut formatter = NasmFormatter::new();
    for instruction in &mut Decoder::new(64, code, DecoderOptions::NONE) {
        write!(out, "{:6x}  ", instruction.ip())?;
        formatter.format(&instruction, out);
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_example_is_listed() {
        let args = |seed: &str| DumpProgram { seed: seed.to_owned(), one: false };
        let seed = "c80200000000000000000000000000000000000000000000000000000001efcd";
        assert!(args(&format!("{seed}ab00")).seed().is_err());
        assert!(args("xy").seed().is_err());
        assert_eq!(args("01").seed().unwrap()[..2], [1, 0]);

        let words = [0x0060_0042, 0xa6c4_ba41, 0x8056_5c40, 0x0020_0639, 0xe304_103b, 0x0000_0046];
        let mut text = String::new();
        list_words(&mut text, &words).unwrap();
        assert_eq!(
            text,
            "   0  00600042  LOOP 6\n   \
            1  a6c4ba41    MEMORY base 21346 step 5 carry 13\n   \
            2  80565c40    IN 5\n   \
            3  00200639    ROTR64 r3, r2\n   \
            4  e304103b    ADD64C r8, -464\n   \
            5  00000046  END\n"
        );
        let mut text = String::new();
        list_code(&mut text, &[0xc5, 0xf5, 0xfe, 0xc2, 0xc3]).unwrap();
        assert_eq!(
            text,
            "\n5 bytes; rdi is the frame\n     0  vpaddd ymm0,ymm1,ymm2\n     4  ret\n"
        );
    }
}
