//! Which instruction set the batch kernels use: the only CPU detection of the workspace.
//!
//! A [`Backend`] is passed to every call that works on many hashes, states or items at once, and is
//! looked at once a batch. All levels give the same bytes. Kernels exist for [`Backend::Soft`];
//! [`Backend::best`] never returns a level without kernels, whatever the CPU offers.

use core::fmt;
use core::str::FromStr;

/// An instruction set level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Portable code.
    #[default]
    Soft,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F and VL.
    Avx512,
    /// AArch64 with NEON.
    Neon,
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
cpufeatures::new!(cpu_avx2, "avx2");
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
cpufeatures::new!(cpu_avx512, "avx512f", "avx512vl");

impl Backend {
    /// Every level, the widest first.
    pub const ALL: [Backend; 4] = [Backend::Avx512, Backend::Avx2, Backend::Neon, Backend::Soft];

    /// The widest level that this CPU offers, with kernels or without.
    #[must_use]
    pub fn detect() -> Backend {
        Backend::ALL.into_iter().find(|backend| backend.is_on_cpu()).unwrap_or(Backend::Soft)
    }

    /// The level to use: the widest one that this CPU offers and that has kernels.
    #[must_use]
    pub fn best() -> Backend {
        Backend::available().next().unwrap_or(Backend::Soft)
    }

    /// The levels that can be used on this CPU, the widest first.
    pub fn available() -> impl Iterator<Item = Backend> {
        Backend::ALL.into_iter().filter(|backend| backend.is_available())
    }

    /// Whether this level has kernels and the CPU offers it.
    #[must_use]
    pub fn is_available(self) -> bool {
        matches!(self, Backend::Soft) && self.is_on_cpu()
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

    fn is_on_cpu(self) -> bool {
        match self {
            Backend::Soft => true,
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Backend::Avx2 => cpu_avx2::get(),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Backend::Avx512 => cpu_avx512::get(),
            Backend::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
            Backend::Avx2 | Backend::Avx512 => false,
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
    fn the_best_level_has_kernels() {
        assert!(Backend::best().is_available());
        assert_eq!(Backend::available().last(), Some(Backend::Soft));
        assert!(Backend::detect().is_on_cpu());
    }
}
