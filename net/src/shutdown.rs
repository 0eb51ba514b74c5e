//! One signal that ends every task of a role.

use tokio_util::sync::CancellationToken;

/// A signal that is given once and stays given. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A signal that has not been given.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal. Giving it again changes nothing.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Whether the signal has been given. Cheap enough for a mining loop's outer step.
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when the signal is given, at once if it has been.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// As [`cancelled`](Self::cancelled), for a future that must not borrow.
    pub async fn cancelled_owned(self) {
        self.token.cancelled_owned().await;
    }

    /// A signal of a part: given with this one, or alone.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }

    /// Waits for `duration`; false when the signal cut the wait short.
    pub async fn sleep(&self, duration: std::time::Duration) -> bool {
        tokio::select! {
            biased;
            () = self.cancelled() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn clones_and_children_follow_and_parents_do_not() {
        let parent = Shutdown::new();
        let child = parent.child();
        let clone = parent.clone();
        child.trigger();
        assert!(child.is_triggered() && !parent.is_triggered());
        assert!(!child.sleep(Duration::from_secs(3600)).await);
        let second = parent.child();
        clone.trigger();
        parent.cancelled().await;
        assert!(second.is_triggered());
    }
}
