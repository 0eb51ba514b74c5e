//! Which instruction set the batch kernels use: the only CPU detection of the workspace.
//!
//! A [`Backend`] is passed to every call that works on many hashes, states or items at once, and is
//! looked at once a batch. All levels give the same bytes. A level that this CPU lacks can be named
//! and passed without harm: calls then work as with [`Backend::Soft`].
#![allow(unsafe_code)] // The proofs of what was detected.

use core::fmt;
use core::str::FromStr;
use core::sync::atomic::{AtomicU8, Ordering};

use crate::simd::Level;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use crate::simd::Neon;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};

/// An instruction set level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Portable code.
    #[default]
    Soft,
    /// x86-64 with AVX2, and with the instructions on bits that all CPUs with it have: POPCNT, BMI1
    /// and BMI2.
    Avx2,
    /// x86-64 with AVX-512 as CPUs since Ice Lake and Zen 4 have it: F, VL, BW, DQ, IFMA, VBMI,
    /// VBMI2, BITALG and VPOPCNTDQ; and all that [`Backend::Avx2`] needs.
    Avx512,
    /// AArch64 with NEON.
    Neon,
}

#[cfg(target_arch = "x86_64")]
cpufeatures::new!(cpu_avx2, "avx2", "bmi1", "bmi2", "popcnt");
#[cfg(target_arch = "x86_64")]
cpufeatures::new!(
    cpu_avx512,
    "avx2",
    "bmi1",
    "bmi2",
    "popcnt",
    "avx512f",
    "avx512vl",
    "avx512bw",
    "avx512dq",
    "avx512ifma",
    "avx512vbmi",
    "avx512vbmi2",
    "avx512bitalg",
    "avx512vpopcntdq"
);

/// What [`Backend::force`] was told: a place in [`Backend::ALL`], or a number that is none.
static FORCED: AtomicU8 = AtomicU8::new(u8::MAX);

impl Backend {
    /// Every level, the widest first.
    pub const ALL: [Backend; 4] = [Backend::Avx512, Backend::Avx2, Backend::Neon, Backend::Soft];

    /// The level to use: the [forced](Backend::force) one, else the widest one that this CPU offers.
    #[must_use]
    pub fn best() -> Backend {
        let forced = Backend::ALL.get(usize::from(FORCED.load(Ordering::Relaxed)));
        let widest = || Backend::available().next().unwrap_or(Backend::Soft);
        forced.copied().unwrap_or_else(widest)
    }

    /// Makes a level the [best](Backend::best) one of this process, for users who force it. Call it
    /// before anything has chosen its level.
    ///
    /// # Errors
    /// [`UnavailableBackendError`] when this CPU lacks it; nothing is forced then.
    pub fn force(self) -> Result<(), UnavailableBackendError> {
        self.required()?;
        let place = (0..).zip(Backend::ALL).find(|(_, backend)| *backend == self);
        FORCED.store(place.map_or(u8::MAX, |(place, _)| place), Ordering::Relaxed);
        Ok(())
    }

    /// The level itself, if it can be used here.
    ///
    /// # Errors
    /// [`UnavailableBackendError`] when this CPU lacks it.
    pub fn required(self) -> Result<Backend, UnavailableBackendError> {
        if self.is_available() { Ok(self) } else { Err(UnavailableBackendError(self)) }
    }

    /// The levels that can be used on this CPU, the widest first.
    pub fn available() -> impl Iterator<Item = Backend> {
        Backend::ALL.into_iter().filter(|backend| backend.is_available())
    }

    /// Whether this CPU offers the level.
    #[must_use]
    pub fn is_available(self) -> bool {
        matches!(self, Backend::Soft) || self.level().is_some()
    }

    /// The name that [`FromStr`] reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Backend::Soft => "soft",
            Backend::Avx2 => "avx2",
            Backend::Avx512 => "avx512",
            Backend::Neon => "neon",
        }
    }

    /// The proof that this CPU offers the level; `None` for [`Backend::Soft`], and where it does not.
    pub(crate) fn level(self) -> Option<Level> {
        match self {
            // SAFETY: detected in the same line.
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => cpu_avx2::get().then(|| Level::Avx2(unsafe { Avx2::new_unchecked() })),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512 => {
                // SAFETY: detected in the same line.
                cpu_avx512::get().then(|| Level::Avx512(unsafe { Avx512::new_unchecked() }))
            }
            // SAFETY: the program is compiled for CPUs that have it.
            #[cfg(all(target_arch = "aarch64", target_endian = "little", target_feature = "neon"))]
            Backend::Neon => Some(Level::Neon(unsafe { Neon::new_unchecked() })),
            _ => None,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no [`Backend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownBackendError;

impl fmt::Display for UnknownBackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown back end: avx512, avx2, neon and soft are known")
    }
}

impl core::error::Error for UnknownBackendError {}

/// A [`Backend`] that this CPU lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnavailableBackendError(pub Backend);

impl fmt::Display for UnavailableBackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this CPU has no back end {}; it has:", self.0)?;
        Backend::available().try_for_each(|backend| write!(f, " {backend}"))
    }
}

impl core::error::Error for UnavailableBackendError {}

impl FromStr for Backend {
    type Err = UnknownBackendError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Backend::ALL.into_iter().find(|b| b.name() == text).ok_or(UnknownBackendError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for backend in Backend::ALL {
            assert_eq!(backend.name().parse(), Ok(backend));
        }
        assert_eq!("sse9".parse::<Backend>(), Err(UnknownBackendError));
    }

    #[test]
    fn the_best_level_is_available() {
        assert!(Backend::best().is_available());
        assert_eq!(Backend::available().next(), Some(Backend::best()));
        assert_eq!(Backend::available().last(), Some(Backend::Soft));
    }
}
