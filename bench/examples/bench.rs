//! `cargo run --release -p packetcrypt-bench --example bench -- [quick] [BACKEND] [EXECUTOR] [THREADS]`

use packetcrypt_bench::{Options, run_with};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::default();
    for word in std::env::args().skip(1) {
        if word == "quick" {
            options.quick = true;
        } else if let Ok(backend) = word.parse() {
            options.backend = backend;
        } else if let Ok(executor) = word.parse() {
            options.executor = executor;
        } else {
            options.threads = word.parse()?;
        }
    }
    println!("{}, {}, {} threads", options.backend, options.executor, options.threads);
    run_with(&options, &mut |row| println!("{row}"))?;
    Ok(())
}
