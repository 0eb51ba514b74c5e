//! What a pay log counts: for its handler's figures and for the metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use serde::Serialize;

use super::{Shared, files};
use crate::metrics::Metrics;

/// What a pay log counted: `appended` lines are in files, `refused` and `failed` ones are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PayLogStats {
    /// Lines that are durable.
    pub appended: u64,
    /// Lines refused because the queue was full or the line was none.
    pub refused: u64,
    /// Lines that the disk did not take.
    pub failed: u64,
    /// Commits (each is one `fdatasync`).
    pub commits: u64,
    /// Files that were begun.
    pub files_begun: u64,
    /// Files uploaded and deleted.
    pub files_uploaded: u64,
    /// Uploads that failed and will be tried again.
    pub uploads_failed: u64,
    /// Bytes of torn lines that were cut off.
    pub torn_bytes: u64,
    /// Closed files that wait for their upload now.
    pub files_waiting: u64,
    /// Files in the directory now that the paymaker refused for good, of former runs too. They stay
    /// until somebody takes them away.
    pub files_refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) appended: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) files_begun: AtomicU64,
    pub(super) files_uploaded: AtomicU64,
    pub(super) uploads_failed: AtomicU64,
    pub(super) torn_bytes: AtomicU64,
}

impl Shared {
    pub(super) fn stats(&self) -> PayLogStats {
        let counters = &self.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let dir = &self.options.dir;
        let current = self.current.load(Ordering::Acquire);
        // A directory that can not be read now is said by writer and uploader.
        let closed = files::list(dir).unwrap_or_default();
        let refused = files::list_refused(dir).unwrap_or_default();
        PayLogStats {
            appended: count(&counters.appended),
            refused: count(&counters.refused),
            failed: count(&counters.failed),
            commits: count(&counters.commits),
            files_begun: count(&counters.files_begun),
            files_uploaded: count(&counters.files_uploaded),
            uploads_failed: count(&counters.uploads_failed),
            torn_bytes: count(&counters.torn_bytes),
            files_waiting: closed.iter().filter(|number| **number < current).count() as u64,
            files_refused: refused.len() as u64,
        }
    }
}

impl fmt::Display for PayLogStats {
    /// For the statistics line of a role.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { appended, files_uploaded, files_waiting, .. } = self;
        write!(
            f,
            "pay log: {appended} events, files {files_uploaded} sent {files_waiting} waiting"
        )?;
        if self.files_refused > 0 {
            write!(f, " {} REFUSED", self.files_refused)?;
        }
        Ok(())
    }
}

/// The figures of a pay log. They do not keep it open.
#[derive(Clone, Debug)]
pub struct PayLogFigures(pub(super) Arc<Shared>);

impl PayLogFigures {
    /// The counters, and how many files there are.
    pub fn stats(&self) -> PayLogStats {
        self.0.stats()
    }

    /// Shows the figures among the metrics of a role, as `paylog_...`.
    pub fn register(&self, metrics: &mut Metrics) {
        metrics.registry_mut().register_collector(Box::new(self.clone()));
    }
}

impl Collector for PayLogFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.stats();
        let counters = [
            ("appended", "Lines that are durable.", stats.appended),
            ("refused", "Lines refused: queue full, or no line.", stats.refused),
            ("failed", "Lines that the disk did not take.", stats.failed),
            ("commits", "Commits, one fdatasync each.", stats.commits),
            ("files_begun", "Files that were begun.", stats.files_begun),
            ("files_uploaded", "Files uploaded and deleted.", stats.files_uploaded),
            ("uploads_failed", "Uploads that will be tried again.", stats.uploads_failed),
            ("torn_bytes", "Bytes of torn lines cut off.", stats.torn_bytes),
        ];
        for (name, help, value) in counters {
            let name = format!("paylog_{name}");
            let counter = ConstCounter::new(value);
            let kind = counter.metric_type();
            counter.encode(encoder.encode_descriptor(&name, help, None, kind)?)?;
        }
        let gauges = [
            ("files_waiting", "Closed files that wait for their upload.", stats.files_waiting),
            ("files_refused", "Files that the paymaker refused for good.", stats.files_refused),
        ];
        for (name, help, value) in gauges {
            let name = format!("paylog_{name}");
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let kind = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(&name, help, None, kind)?)?;
        }
        Ok(())
    }
}
