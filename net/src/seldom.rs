//! Messages that would come with every share or post, said once in a while with the number held back.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a message of one kind is said.
pub const SAID_EVERY: Duration = Duration::from_secs(5);

/// One kind of message. The first is said at once; of those that follow within [`SAID_EVERY`] of
/// one that was said only the number is kept.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// What to add to the message, `None` when it is not to be said now.
    pub fn say(&self) -> Option<HeldBack> {
        self.say_at(Instant::now())
    }

    fn say_at(&self, now: Instant) -> Option<HeldBack> {
        let mut said = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.last.is_some_and(|last| now.saturating_duration_since(last) < SAID_EVERY) {
            said.held_back += 1;
            return None;
        }
        said.last = Some(now);
        Some(HeldBack(std::mem::take(&mut said.held_back)))
    }
}

/// How many messages of the kind were not said since the last one; as text the end of a message,
/// empty for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBack(pub u64);

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more of this kind before)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_the_rest_counted() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.say_at(start), Some(HeldBack(0)));
        for _ in 0..3 {
            assert_eq!(seldom.say_at(start + SAID_EVERY / 2), None);
        }
        let later = seldom.say_at(start + SAID_EVERY).unwrap();
        assert_eq!(later.to_string(), " (3 more of this kind before)");
        assert_eq!(seldom.say_at(start + 2 * SAID_EVERY).unwrap().to_string(), "");
    }
}
