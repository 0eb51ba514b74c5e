//! How many connections there may be, in total and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the open connections of all executors of a server.
#[derive(Debug)]
pub(crate) struct Gate {
    total_max: usize,
    per_source_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// Which bound was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    Total,
    Source,
}

/// The leave to have a connection; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    source: IpAddr,
}

impl Gate {
    pub(crate) fn new(total_max: usize, per_source_max: usize) -> Self {
        Self { total_max, per_source_max, open: Mutex::default() }
    }

    pub(crate) fn enter(self: &Arc<Self>, peer: SocketAddr) -> Result<Pass, Crowded> {
        self.enter_within(peer, self.per_source_max)
    }

    /// As [`Gate::enter`], with a bound of its own for this source.
    pub(crate) fn enter_within(
        self: &Arc<Self>,
        peer: SocketAddr,
        per_source_max: usize,
    ) -> Result<Pass, Crowded> {
        let source = source(peer.ip());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.total_max {
            return Err(Crowded::Total);
        }
        let count = open.by_source.entry(source).or_insert(0);
        if *count >= per_source_max {
            return Err(Crowded::Source);
        }
        *count += 1;
        open.total += 1;
        Ok(Pass { gate: self.clone(), source })
    }

    pub(crate) fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(count) = open.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.by_source.remove(&self.source);
            }
        }
    }
}

/// Who counts as one source: an IPv4 address, or the 64 bits of an IPv6 network, as one host has
/// as many addresses there as it likes.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let gate = Arc::new(Gate::new(3, 2));
        let enter = |peer: &str| gate.enter(peer.parse().unwrap());
        let first = enter("10.0.0.1:1").unwrap();
        let _mapped = enter("[::ffff:10.0.0.1]:2").unwrap();
        assert_eq!(enter("10.0.0.1:3").unwrap_err(), Crowded::Source);
        let _v6 = enter("[2001:db8::1]:1").unwrap();
        assert_eq!(enter("[2001:db8::2]:1").unwrap_err(), Crowded::Total);
        drop(first);
        let _same_network = enter("[2001:db8::3]:1").unwrap();
        assert_eq!(gate.open(), 3);
        assert_eq!(source("2001:db8::3".parse().unwrap()), source("2001:db8::4".parse().unwrap()));
        assert_eq!(gate.open.lock().unwrap().by_source.len(), 2);
    }
}
