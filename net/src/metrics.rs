//! One Prometheus registry a role.
//!
//! Names get the role as prefix (`handler_posts_total`), so that several roles in one process are
//! told apart by whoever scrapes them.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The content type of `/metrics`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one role. Fill it at start, then share it behind an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// An empty registry whose metrics begin with `packetcrypt_<role>_`.
    pub fn new(role: &str) -> Self {
        Self { registry: Registry::with_prefix(format!("packetcrypt_{role}")) }
    }

    /// A counter; the exposition appends `_total` to its name.
    pub fn counter(&mut self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.registry.register(name, help, counter.clone());
        counter
    }

    /// A value that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.registry.register(name, help, gauge.clone());
        gauge
    }

    /// For metrics with labels and collectors.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The text that `/metrics` serves.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String fails only if a collector of ours reports an error.
        if encode(&mut text, &self.registry).is_err() {
            text.push_str("# EOF\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_role_and_values_are_shown() {
        let mut metrics = Metrics::new("handler");
        let posts = metrics.counter("posts", "Posts received");
        let open = metrics.gauge("connections", "Open connections");
        posts.inc_by(3);
        open.set(-2);
        let text = metrics.encode();
        assert!(text.contains("packetcrypt_handler_posts_total 3\n"), "{text}");
        assert!(text.contains("packetcrypt_handler_connections -2\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
