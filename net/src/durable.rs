//! What makes files outlast a power failure.

use std::io;
use std::path::Path;

/// Makes the names in a directory durable: without it a new file can be gone after a power cut,
/// whatever was synced into it.
///
/// # Errors
/// What the operating system says. Windows has no such call and needs none: there nothing is done.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { std::fs::File::open(dir)?.sync_all() } else { Ok(()) }
}
