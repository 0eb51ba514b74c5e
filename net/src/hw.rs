//! What the machine has: cores, caches, memory nodes, huge pages, and how to get them.
//!
//! Everything that only Linux tells has a plain answer elsewhere (one domain, no pinning), and
//! every wish that can not be met comes back as a text that an operator can act on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

mod huge_pages;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
#[path = "hw/other.rs"]
mod linux;
mod memory;
mod topology;

pub use huge_pages::{HugePages, HugePagesError};
pub use memory::{
    ask_for_huge_pages, bind_memory, boot_id, huge_page_bytes, interleave_memory, preallocate,
};
pub use topology::{Domain, l3_domains, memory_nodes, topology_line};

/// CPU numbers above this are refused: the kernel's own bound is 8192.
pub const CPU_NUMBER_MAX: usize = 8191;

/// How many threads the machine can run at once for this process: affinity and quotas counted.
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The CPUs that this process may use, ascending.
pub fn available_cpus() -> CpuSet {
    linux::allowed_cpus().unwrap_or_else(|| CpuSet { cpus: (0..available_cores()).collect() })
}

/// CPU time of the threads of this process whose names begin with one of these; zero where the
/// system does not tell.
pub fn threads_cpu_time(names: &[&str]) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        if !names.iter().any(|wanted| name.starts_with(wanted)) {
            return None;
        }
        let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        times.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// A set of CPU numbers, ascending, without repetition: `0-7`, `0,2,4-6`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet {
    cpus: Vec<usize>,
}

/// Why a text is no set of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuSetError {
    /// A part is neither a number nor a range of two numbers.
    #[error("{0:?} is neither a CPU number nor a range such as 0-7")]
    Part(String),
    /// A range that goes down.
    #[error("the range {0}-{1} goes down")]
    Descending(usize, usize),
    /// A number that no machine has.
    #[error("CPU {0} is above {CPU_NUMBER_MAX}")]
    TooLarge(usize),
    /// CPUs that this process may not use.
    #[error("CPU {missing} is not among those this process may use ({available})")]
    Unavailable {
        /// The first such CPU.
        missing: usize,
        /// Those that may be used.
        available: CpuSet,
    },
}

impl CpuSet {
    /// The set of these CPUs.
    pub fn new(cpus: impl IntoIterator<Item = usize>) -> Self {
        let mut cpus: Vec<usize> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        Self { cpus }
    }

    /// The CPU numbers, ascending.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.cpus.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }

    /// Whether `cpu` is one of them.
    pub fn contains(&self, cpu: usize) -> bool {
        self.cpus.binary_search(&cpu).is_ok()
    }

    /// Checks that this process may use all of them.
    ///
    /// # Errors
    /// [`CpuSetError::Unavailable`] with the first that it may not use.
    pub fn check_available(&self) -> Result<(), CpuSetError> {
        let available = available_cpus();
        match self.cpus.iter().find(|cpu| !available.contains(**cpu)) {
            None => Ok(()),
            Some(&missing) => Err(CpuSetError::Unavailable { missing, available }),
        }
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    /// Reads the list form of the kernel: numbers and ranges, separated by commas.
    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let number = |part: &str| {
            let part = part.trim();
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(CpuSetError::Part(part.to_owned()));
            }
            let cpu = part.parse().map_err(|_| CpuSetError::Part(part.to_owned()))?;
            if cpu > CPU_NUMBER_MAX { Err(CpuSetError::TooLarge(cpu)) } else { Ok(cpu) }
        };
        let mut cpus = Vec::new();
        for part in text.trim().split(',') {
            match part.split_once('-') {
                None => cpus.push(number(part)?),
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last {
                        return Err(CpuSetError::Descending(first, last));
                    }
                    cpus.extend(first..=last);
                }
            }
        }
        Ok(Self::new(cpus))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.cpus.as_slice();
        let mut separator = "";
        while let Some(&first) = rest.first() {
            let run = rest.iter().zip(first..).take_while(|(cpu, expected)| **cpu == *expected);
            let len = run.count();
            write!(f, "{separator}{first}")?;
            if len > 1 {
                write!(f, "-{}", first + len - 1)?;
            }
            separator = ",";
            rest = &rest[len..];
        }
        Ok(())
    }
}

/// Ties the calling thread to one CPU. Elsewhere than on Linux it does nothing.
///
/// # Errors
/// What the kernel says, with the CPU.
pub fn pin_thread(cpu: usize) -> Result<(), PinError> {
    linux::pin_thread(cpu).map_err(|cause| PinError { cpu, cause })
}

/// A thread could not be tied to a CPU.
#[derive(Debug, thiserror::Error)]
#[error("this thread can not be pinned to CPU {cpu}: {cause}")]
pub struct PinError {
    /// The CPU.
    pub cpu: usize,
    /// What the kernel says.
    pub cause: std::io::Error,
}

/// Lowers the priority of the calling thread: `nice` from 0 (as it is) to 19 (only what nobody
/// else wants). Elsewhere than on Linux it does nothing.
///
/// # Errors
/// What the kernel says, for instance when the thread already is at a lower priority.
pub fn lower_thread_priority(nice: u8) -> std::io::Result<()> {
    linux::lower_thread_priority(i32::from(nice.min(19)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_and_ranges() {
        let set: CpuSet = " 4-6,0, 2,5 ".parse().unwrap();
        assert_eq!(set.cpus(), [0, 2, 4, 5, 6]);
        assert_eq!(set.to_string(), "0,2,4-6");
        assert_eq!("3-1".parse::<CpuSet>(), Err(CpuSetError::Descending(3, 1)));
        assert_eq!("8192".parse::<CpuSet>(), Err(CpuSetError::TooLarge(8192)));
        for bad in ["", ",", "1,", "-1", "1-", "a", "+1", "0x1", "99999999999999999999999"] {
            assert!(matches!(bad.parse::<CpuSet>(), Err(CpuSetError::Part(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = CpuSet::new([8191]).check_available().unwrap_err();
        assert!(error.to_string().starts_with("CPU 8191 is not among"), "{error}");
        assert!(available_cpus().check_available().is_ok());
        assert!(available_cores() >= 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pinned_thread_stays_on_its_cpu() {
        let cpu = available_cpus().cpus()[0];
        let seen = std::thread::spawn(move || {
            pin_thread(cpu).unwrap();
            lower_thread_priority(1).unwrap();
            available_cpus()
        });
        assert_eq!(seen.join().unwrap().cpus(), [cpu]);
        assert!(pin_thread(8000).unwrap_err().to_string().contains("CPU 8000"));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(cpus in proptest::collection::vec(0usize..300, 1..40)) {
            let set = CpuSet::new(cpus);
            prop_assert_eq!(set.to_string().parse::<CpuSet>().unwrap(), set);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9, a-]{0,20}") {
            let _ = text.parse::<CpuSet>();
        }
    }
}
