//! Compiles `proto/` at build time, without protoc: protox makes the descriptor set, tonic and prost the Rust code. The
//! descriptor set, comments included, is kept as `OUT_DIR/interlock.v1.bin` for server reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

/// The import root of all protos.
const ROOT: &str = "proto";
/// The folder of our own package; only this is watched, so that tools beside it trigger no rebuild.
const PACKAGE: &str = "proto/interlock/v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={PACKAGE}");
    // They are embedded by a macro, which cargo does not see through.
    println!("cargo:rerun-if-changed=migrations");

    let mut files = Vec::new();
    for entry in fs::read_dir(PACKAGE)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    // The order of a directory is the file system's; the output shall not depend on it.
    files.sort();

    let descriptors = protox::compile(&files, [ROOT])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("interlock.v1.bin"), descriptors.encode_to_vec())?;

    // Sorted maps make encodings, and so digests and tests, the same in every run.
    tonic_prost_build::configure().btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
