//! Makes `data/announcements_64.bin`: 64 announcements, each of another job.
//! `cargo run --release -p packetcrypt-bench --example announcements -- FILE`

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("which file?")?;
    std::fs::write(file, packetcrypt_bench::announcements_of_jobs(64))?;
    Ok(())
}
