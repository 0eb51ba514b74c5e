//! Files that are mapped to be written: their blocks are taken and their pages made beforehand.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};

/// Opens a file that is there.
pub(super) fn read_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Makes a file of this length.
pub(super) fn preallocated(path: &Path, len: usize) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let allocated = allocate(&file, len);
    if allocated.is_err() {
        // What could not be had whole is not left behind in part: the disk is probably full.
        let _ = fs::remove_file(path);
    }
    allocated.map(|()| file)
}

/// Takes the blocks of the file now: writing into a mapping of a file with holes ends the process
/// when the disk is full.
#[cfg(target_os = "linux")]
fn allocate(file: &File, len: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let len = libc::off_t::try_from(len).map_err(io::Error::other)?;
    // SAFETY: a plain system call on a descriptor that is open for writing.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, len: usize) -> io::Result<()> {
    file.set_len(len as u64)
}

/// Maps a file to be read and written.
pub(super) fn map(file: &File, len: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().len(len).map_raw(file)
}

/// Has the pages of a mapping there before they are written: all together that is several times
/// cheaper than a fault for each. It is done where it can be.
pub(super) fn populate(mapping: &MmapRaw) {
    #[cfg(target_os = "linux")]
    let _ = mapping.advise(memmap2::Advice::PopulateWrite);
    #[cfg(not(target_os = "linux"))]
    let _ = mapping;
}
