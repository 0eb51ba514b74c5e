//! Compiles the part of libsodium that the baseline uses, with nothing but a C compiler.

fn main() -> std::io::Result<()> {
    #[cfg(feature = "libsodium")]
    sodium::compile()?;
    Ok(())
}

#[cfg(feature = "libsodium")]
mod sodium {
    use std::path::{Path, PathBuf};
    use std::{env, fs, io};

    const ROOT: &str = "libsodium";

    pub(super) fn compile() -> io::Result<()> {
        let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
        let is_msvc = target("ENV") == "msvc";
        let has_x86_kernels = target("ARCH") == "x86_64" && !is_msvc;

        let mut build = cc::Build::new();
        build
            .opt_level(3) // Also below a debug build: a slow baseline would flatter.
            .warnings(false)
            .include(ROOT)
            .includes(["include", "include/sodium", "crypto_core/ed25519/ref10"].map(in_root))
            .flag_if_supported("-fno-strict-aliasing")
            .flag_if_supported("-fwrapv")
            .define("CONFIGURED", "1")
            .define("SODIUM_STATIC", "1");
        if target("ENDIAN") == "little" {
            build.define("NATIVE_LITTLE_ENDIAN", "1");
        }
        if target("POINTER_WIDTH") == "64" && !is_msvc {
            build.define("HAVE_TI_MODE", "1"); // 128-bit integers
        }
        if has_x86_kernels {
            for header in ["MM", "EMM", "PMM", "TMM", "SMM", "AVX", "AVX2"] {
                build.define(&format!("HAVE_{header}INTRIN_H"), "1");
            }
        }
        let has_assembly = has_x86_kernels && target("OS") == "linux";
        if has_assembly {
            build.define("HAVE_AVX_ASM", "1").define("ASM_HIDE_SYMBOL", ".hidden");
            // The assembly files do not say so themselves, and one that does not makes the stack of
            // the whole program executable.
            build.flag("-Wa,--noexecstack");
        }
        build.file("shim.c");
        add_sources(&mut build, Path::new(ROOT), has_assembly)?;
        build.compile("packetcrypt_baseline_sodium");
        println!("cargo::rerun-if-changed=shim.c");
        println!("cargo::rerun-if-changed={ROOT}");
        Ok(())
    }

    fn in_root(directory: &str) -> PathBuf {
        Path::new(ROOT).join(directory)
    }

    fn add_sources(build: &mut cc::Build, directory: &Path, has_assembly: bool) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if path.is_dir() {
                add_sources(build, &path, has_assembly)?;
            } else if ending == Some("c") || has_assembly && ending == Some("S") {
                build.file(path);
            }
        }
        Ok(())
    }
}
