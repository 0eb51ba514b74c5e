//! Which CPUs share a last-level cache or a memory node, from `/sys`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{CpuSet, available_cpus};

/// CPUs that share something: a last-level cache or a memory node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The number of the memory node, or of the first CPU of a cache.
    pub id: usize,
    /// Those of its CPUs that this process may use; never empty.
    pub cpus: CpuSet,
    /// Size of the cache in bytes; None for a memory node or where it is not known.
    pub cache_bytes: Option<u64>,
}

/// The domains of the last-level cache that this process may use. One table of announcement items
/// (8 MiB) fits each; where nothing is known, one domain of all CPUs.
pub fn l3_domains() -> Vec<Domain> {
    l3_domains_at(Path::new("/sys/devices/system/cpu"), &available_cpus())
}

/// The memory nodes that this process may use; where nothing is known, one of all CPUs.
pub fn memory_nodes() -> Vec<Domain> {
    memory_nodes_at(Path::new("/sys/devices/system/node"), &available_cpus())
}

/// The machine in one line for a program's start: `8 CPUs (0-7), 2 x L3 of 32 MiB, 1 memory node`.
pub fn topology_line() -> String {
    let (cpus, caches, nodes) = (available_cpus(), l3_domains(), memory_nodes());
    let size = match caches.first().and_then(|c| c.cache_bytes) {
        Some(bytes) => format!(" of {} MiB", bytes >> 20),
        None => " of unknown size".to_owned(),
    };
    let count = nodes.len();
    let plural = if count == 1 { "" } else { "s" };
    format!(
        "{} CPUs ({cpus}), {} x L3{size}, {count} memory node{plural}",
        cpus.len(),
        caches.len()
    )
}

fn l3_domains_at(root: &Path, available: &CpuSet) -> Vec<Domain> {
    let mut domains: BTreeMap<usize, Domain> = BTreeMap::new();
    for &cpu in available.cpus() {
        let Some((sharing, cache_bytes)) = l3_of(root, cpu) else { continue };
        let Some(&id) = sharing.cpus().first() else { continue };
        let usable = sharing.cpus().iter().copied().filter(|c| available.contains(*c));
        let cpus = CpuSet::new(usable);
        if cpus.contains(cpu) {
            domains.entry(id).or_insert(Domain { id, cpus, cache_bytes });
        }
    }
    whole_or(domains, available)
}

fn l3_of(root: &Path, cpu: usize) -> Option<(CpuSet, Option<u64>)> {
    let caches = root.join(format!("cpu{cpu}/cache"));
    (0..8).map(|index| caches.join(format!("index{index}"))).find_map(|cache| {
        if fs::read_to_string(cache.join("level")).ok()?.trim() != "3" {
            return None;
        }
        let sharing = fs::read_to_string(cache.join("shared_cpu_list")).ok()?.parse().ok()?;
        let size = fs::read_to_string(cache.join("size")).ok();
        Some((sharing, size.and_then(|text| cache_bytes(text.trim()))))
    })
}

/// `32768K` or `32M` in bytes.
fn cache_bytes(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor: u64 = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn memory_nodes_at(root: &Path, available: &CpuSet) -> Vec<Domain> {
    let mut domains = BTreeMap::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|n| n.strip_prefix("node")) else { continue };
        let Ok(id) = id.parse::<usize>() else { continue };
        let Ok(list) = fs::read_to_string(entry.path().join("cpulist")) else { continue };
        // A node of memory without CPUs has an empty list.
        let Ok(cpus) = list.parse::<CpuSet>() else { continue };
        let cpus = CpuSet::new(cpus.cpus().iter().copied().filter(|c| available.contains(*c)));
        if !cpus.is_empty() {
            domains.insert(id, Domain { id, cpus, cache_bytes: None });
        }
    }
    whole_or(domains, available)
}

/// The domains found if they cover every usable CPU, else one domain of all.
fn whole_or(domains: BTreeMap<usize, Domain>, available: &CpuSet) -> Vec<Domain> {
    let covered: usize = domains.values().map(|d| d.cpus.len()).sum();
    if covered == available.len() && covered > 0 {
        domains.into_values().collect()
    } else {
        vec![Domain { id: 0, cpus: available.clone(), cache_bytes: None }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(shared: &[(usize, &str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (cpu, list, size) in shared {
            let cache = dir.path().join(format!("cpu{cpu}/cache/index3"));
            fs::create_dir_all(&cache).unwrap();
            fs::write(cache.join("level"), "3\n").unwrap();
            fs::write(cache.join("shared_cpu_list"), format!("{list}\n")).unwrap();
            fs::write(cache.join("size"), format!("{size}\n")).unwrap();
        }
        dir
    }

    #[test]
    fn two_caches_with_siblings_and_an_affinity_mask() {
        let both = [(0, "0-1,4-5"), (1, "0-1,4-5"), (2, "2-3"), (3, "2-3"), (4, "0-1,4-5")];
        let shared: Vec<_> = both.iter().map(|(cpu, list)| (*cpu, *list, "32768K")).collect();
        let dir = machine(&shared);
        let domains = l3_domains_at(dir.path(), &CpuSet::new([0, 2, 3, 4]));
        assert_eq!(domains.len(), 2);
        assert_eq!(domains[0].cpus.cpus(), [0, 4]);
        assert_eq!(domains[1].cpus.cpus(), [2, 3]);
        assert_eq!(domains[1].cache_bytes, Some(32 << 20));
    }

    #[test]
    fn what_is_unknown_or_nonsense_is_one_domain() {
        let nothing = tempfile::tempdir().unwrap();
        let available = CpuSet::new([0, 1]);
        assert_eq!(l3_domains_at(nothing.path(), &available)[0].cpus, available);
        let odd = machine(&[(0, "zero", "big"), (1, "", "32Q")]);
        let domains = l3_domains_at(odd.path(), &available);
        assert_eq!((domains.len(), domains[0].cpus.len()), (1, 2));
        assert_eq!(cache_bytes("99999999999999G"), None);
    }

    #[test]
    fn this_machine_has_domains_that_cover_it() {
        let cpus: usize = l3_domains().iter().map(|d| d.cpus.len()).sum();
        assert_eq!(cpus, available_cpus().len());
        let cpus: usize = memory_nodes().iter().map(|d| d.cpus.len()).sum();
        assert_eq!(cpus, available_cpus().len());
        assert!(topology_line().contains("CPUs ("));
    }
}
