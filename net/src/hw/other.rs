//! Systems without affinity and thread priority: the wishes are accepted and change nothing.

use std::io;

use super::CpuSet;

pub(super) fn allowed_cpus() -> Option<CpuSet> {
    None
}

pub(super) fn pin_thread(_cpu: usize) -> io::Result<()> {
    Ok(())
}

pub(super) fn lower_thread_priority(_nice: i32) -> io::Result<()> {
    Ok(())
}
