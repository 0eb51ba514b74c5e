//! Whether huge pages can be had, and what to run when not.

use std::fs;
use std::path::Path;

/// The state of 2 MiB pages on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Size of a reserved huge page in bytes; 0 where there are none.
    pub page_bytes: u64,
    /// Reserved pages that nobody uses.
    pub free: u64,
    /// Reserved pages.
    pub total: u64,
    /// Whether the kernel gives huge pages to memory that asks by `madvise`.
    pub transparent: bool,
}

/// Too few huge pages, with the command that reserves enough where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} huge pages of {page_kib} KiB wanted, {free} free{}", advice(*setting))]
pub struct HugePagesError {
    /// Pages that are needed.
    pub wanted: u64,
    /// Pages that are free.
    pub free: u64,
    /// Size of a page, KiB.
    pub page_kib: u64,
    /// What `vm.nr_hugepages` must be so that the wish can be met.
    pub setting: u64,
}

fn advice(setting: u64) -> String {
    if cfg!(target_os = "linux") {
        format!(": sysctl -w vm.nr_hugepages={setting}")
    } else {
        ": they are used on Linux only".to_owned()
    }
}

impl HugePages {
    /// Reads the state of this machine; all zero where it is not told.
    pub fn read() -> Self {
        Self::read_at(Path::new("/proc/meminfo"), Path::new("/sys/kernel/mm/transparent_hugepage"))
    }

    /// Whether `bytes` fit in the reserved pages that are free.
    ///
    /// # Errors
    /// The numbers and the exact sysctl to run.
    pub fn check(&self, bytes: u64) -> Result<(), HugePagesError> {
        const PAGE_BYTES_USUAL: u64 = 2 << 20;
        let page_bytes = if self.page_bytes == 0 { PAGE_BYTES_USUAL } else { self.page_bytes };
        let wanted = bytes.div_ceil(page_bytes);
        if self.page_bytes != 0 && wanted <= self.free {
            return Ok(());
        }
        Err(HugePagesError {
            wanted,
            free: self.free,
            page_kib: page_bytes >> 10,
            setting: self.total.saturating_sub(self.free).saturating_add(wanted),
        })
    }

    fn read_at(meminfo: &Path, transparent: &Path) -> Self {
        let text = fs::read_to_string(meminfo).unwrap_or_default();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let mode = fs::read_to_string(transparent.join("enabled")).unwrap_or_default();
        Self {
            page_bytes: value("Hugepagesize:").saturating_mul(1024),
            free: value("HugePages_Free:"),
            total: value("HugePages_Total:"),
            transparent: mode.contains("[always]") || mode.contains("[madvise]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sysctl_covers_what_is_in_use_too() {
        let dir = tempfile::tempdir().unwrap();
        let meminfo = dir.path().join("meminfo");
        let lines = "MemTotal: 1 kB\nHugePages_Total:     100\nHugePages_Free:       40\n\
                     Hugepagesize:       2048 kB\n";
        fs::write(&meminfo, lines).unwrap();
        fs::write(dir.path().join("enabled"), "always [madvise] never\n").unwrap();
        let pages = HugePages::read_at(&meminfo, dir.path());
        assert_eq!((pages.page_bytes, pages.free, pages.total), (2 << 20, 40, 100));
        assert!(pages.transparent);
        assert!(pages.check(80 << 20).is_ok());
        let text = pages.check((80 << 20) + 1).unwrap_err().to_string();
        assert_eq!(
            text,
            "41 huge pages of 2048 KiB wanted, 40 free: sysctl -w vm.nr_hugepages=101"
        );
    }

    #[test]
    fn a_machine_that_tells_nothing_has_none() {
        let none = HugePages::read_at(Path::new("/nonexistent"), Path::new("/nonexistent"));
        assert_eq!(none, HugePages::default());
        assert_eq!(none.check(1).unwrap_err().setting, 1);
        let _ = HugePages::read();
    }
}
