//! Functions for the operations that take many instructions.

#[cfg(doc)]
use packetcrypt_core::Backend;
use packetcrypt_core::randhash::{opcode as op, word_operation};

/// An operation on one or two words. The CPU must have what [`Backend::Avx2`] needs.
pub(super) type Function = unsafe extern "sysv64" fn(u32, u32) -> u32;

/// Counting bits is what most of these operations do.
#[target_feature(enable = "popcnt,bmi1,bmi2")]
unsafe extern "sysv64" fn function<const OPCODE: u8>(a: u32, b: u32) -> u32 {
    // There is one: see the tests.
    word_operation::<OPCODE>(a, b).unwrap_or(0)
}

macro_rules! functions {
    ($($name:ident)*) => {{
        let mut functions: [Option<Function>; op::IN as usize] = [None; op::IN as usize];
        $(functions[op::$name as usize] = Some(function::<{ op::$name }>);)*
        functions
    }};
}

/// By opcode.
pub(super) const FUNCTIONS: [Option<Function>; op::IN as usize] = functions! {
    POPCNT8 POPCNT16 POPCNT32 CLZ8 CLZ16 CLZ32 CTZ8 CTZ16 CTZ32
    SHLL8 SHLL16 SHRL8 SHRL16 SHRA8 SHRA16 ROTL8 ROTL16
};

#[cfg(test)]
mod tests {
    use packetcrypt_core::Backend;
    use std::println;

    use super::*;

    #[test]
    fn every_function_is_an_operation() {
        if !Backend::Avx2.is_available() {
            println!("skipped: this CPU has no back end avx2");
            return;
        }
        let mut count = 0;
        for (opcode, function) in FUNCTIONS.iter().enumerate() {
            let Some(function) = function else { continue };
            let class = op::Class::of(opcode as u8);
            assert!(matches!(class, Some(op::Class::Op1To1 | op::Class::Op2To1)), "{opcode}");
            // None of them gives 0 for all of these.
            let words = [0, 0x8040_2010, 0x7fff_8001, u32::MAX];
            // SAFETY: `Backend::Avx2` is there.
            let result = |word| unsafe { function(word, 1) };
            assert!(words.iter().any(|word| result(*word) != 0), "{opcode}");
            count += 1;
        }
        assert_eq!(count, 17);
    }
}
