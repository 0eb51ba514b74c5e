//! Which threads search one table together.

use core::fmt;
use core::str::FromStr;

use packetcrypt_net::hw::Domain;
use serde::{Deserialize, Serialize};

use crate::memory::TABLE_BYTES;

/// Whether each mining thread has a table of its own, or the threads that share a last-level cache
/// have two for all of them: one that is searched and one that is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableSharing {
    /// Shared where the tables of pinned threads would not fit the cache that they share.
    #[default]
    Auto,
    /// A table of its own for each thread.
    Own,
    /// Shared: by the threads of each cache where threads are pinned, else by all.
    Shared,
}

impl fmt::Display for TableSharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableSharing::Auto => "auto",
            TableSharing::Own => "own",
            TableSharing::Shared => "shared",
        })
    }
}

impl FromStr for TableSharing {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [TableSharing::Auto, TableSharing::Own, TableSharing::Shared];
        let found = all.into_iter().find(|sharing| sharing.to_string() == name);
        found.ok_or_else(|| format!("{name:?} is none of auto, own, shared"))
    }
}

impl TableSharing {
    /// For each thread, given by its processor where it is pinned: the number of its group, `None`
    /// for a table of its own.
    pub(crate) fn groups(self, threads: &[Option<usize>], caches: &[Domain]) -> Vec<Option<usize>> {
        if self == TableSharing::Own {
            return vec![None; threads.len()];
        }
        let cache_of = |cpu: &Option<usize>| {
            cpu.and_then(|cpu| caches.iter().position(|cache| cache.cpus.contains(cpu)))
        };
        let group_of = |thread: &Option<usize>| {
            let cache = cache_of(thread);
            let count = threads.iter().filter(|other| cache_of(other) == cache).count();
            let fits = |bytes: u64| (count * TABLE_BYTES) as u64 <= bytes;
            let is_shared = match (self, cache.and_then(|cache| caches[cache].cache_bytes)) {
                (TableSharing::Shared, _) => true,
                (_, bytes) => bytes.is_some_and(|bytes| !fits(bytes)),
            };
            // Threads on no known cache are a group of their own, after those of the caches.
            (is_shared && count > 1).then_some(cache.unwrap_or(caches.len()))
        };
        threads.iter().map(group_of).collect()
    }
}

#[cfg(test)]
mod tests {
    use packetcrypt_net::hw::CpuSet;

    use super::*;

    fn cache(id: usize, cpus: core::ops::Range<usize>, mib: Option<u64>) -> Domain {
        Domain { id, cpus: CpuSet::new(cpus), cache_bytes: mib.map(|mib| mib << 20) }
    }

    fn pinned(cpus: core::ops::Range<usize>) -> Vec<Option<usize>> {
        cpus.map(Some).collect()
    }

    #[test]
    fn tables_are_shared_where_they_do_not_fit() {
        let caches = [cache(0, 0..8, Some(32)), cache(8, 8..16, Some(96)), cache(16, 16..20, None)];
        let groups = TableSharing::Auto.groups(&pinned(0..20), &caches);
        assert_eq!(groups[..8], [Some(0); 8], "72 MiB in 32");
        assert_eq!(groups[8..16], [None; 8], "72 MiB in 96");
        assert_eq!(groups[16..], [None; 4], "nothing is known");
        let few = TableSharing::Auto.groups(&pinned(0..3), &caches);
        assert_eq!(few, [None; 3], "27 MiB in 32");
        assert_eq!(TableSharing::Auto.groups(&[None; 16], &caches), [None; 16], "not pinned");
    }

    #[test]
    fn what_is_asked_for_is_done() {
        let caches = [cache(0, 0..2, Some(32)), cache(2, 2..4, Some(32))];
        let shared = |threads: &[Option<usize>]| TableSharing::Shared.groups(threads, &caches);
        assert_eq!(shared(&pinned(0..4)), [Some(0), Some(0), Some(1), Some(1)]);
        assert_eq!(shared(&[None; 3]), [Some(2); 3]);
        assert_eq!(shared(&pinned(0..1)), [None], "nobody to share with");
        assert_eq!(TableSharing::Own.groups(&pinned(0..4), &caches), [None; 4]);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for sharing in [TableSharing::Auto, TableSharing::Own, TableSharing::Shared] {
            assert_eq!(sharing.to_string().parse(), Ok(sharing));
        }
        let error = "none".parse::<TableSharing>().unwrap_err();
        assert_eq!(error, "\"none\" is none of auto, own, shared");
    }
}
