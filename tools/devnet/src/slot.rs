//! A role of the pool over its lives: it may be restarted.

use packetcrypt_net::Shutdown;

/// Ends what it was given to, at the latest when it is dropped: a pool that does not come to be leaves
/// nothing running.
pub(crate) struct StopOnDrop(pub(crate) Shutdown);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.trigger();
    }
}

/// A role, what stops it, and what its earlier lives counted.
pub(crate) struct Slot<R, S> {
    pub(crate) running: Option<R>,
    pub(crate) stop: StopOnDrop,
    pub(crate) past: Vec<S>,
}

impl<R, S> Slot<R, S> {
    pub(crate) fn new(running: R, stop: StopOnDrop) -> Self {
        Self { running: Some(running), stop, past: Vec::new() }
    }
}

/// Counters of the earlier lives and of the present one.
pub(crate) fn lives<R, S: Clone>(slot: &Slot<R, S>, stats: impl Fn(&R) -> S) -> Vec<S> {
    slot.past.iter().cloned().chain(slot.running.as_ref().map(stats)).collect()
}
