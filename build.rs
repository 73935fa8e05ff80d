//! Compiles `proto/` at build time, without protoc: protox makes the descriptor set, tonic and prost the Rust code. The
//! descriptor set, comments included, is kept as `OUT_DIR/interlock.v1.bin` for server reflection.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;
use protox::Compiler;

/// The import root of all protos.
const ROOT: &str = "proto";
/// The folder of our own package.
const PACKAGE: &str = "proto/interlock/v1";
/// The packages of others that ours uses. Only these and our own are watched, so that tools beside them trigger no rebuild.
const OTHERS: &str = "proto/google";

/// What the page was built into. It is made by `make page`, and not by cargo, so that the server can be built without Node; then it has no page.
const PAGE: &str = "clients/page/dist";
/// The files of the page: path, file and media type.
const PAGE_FILES: [(&str, &str, &str); 4] = [
    ("/", "index.html", "text/html; charset=utf-8"),
    ("/app.js", "app.js", "text/javascript; charset=utf-8"),
    ("/app.css", "app.css", "text/css; charset=utf-8"),
    ("/icon.svg", "icon.svg", "image/svg+xml"),
];

/// Message fields that are encoded once for many streams.
const SHARED: &[&str] = &[
    ".interlock.v1.WatchJobResponse.snapshot",
    ".interlock.v1.WatchJobResponse.change",
    ".interlock.v1.WatchJobsResponse.change",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={PACKAGE}");
    println!("cargo:rerun-if-changed={OTHERS}");
    // They are embedded by a macro, which cargo does not see through.
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed={PAGE}");
    embed_page()?;

    let mut files = Vec::new();
    for entry in fs::read_dir(PACKAGE)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    // The order of a directory is the file system's; the output shall not depend on it.
    files.sort();

    let mut compiler = Compiler::new([ROOT])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    // As bytes, they keep the options that are extensions, such as google.api.field_behavior; decoded, they lose them.
    let served = compiler.encode_file_descriptor_set();
    let mut descriptors = FileDescriptorSet::decode(served.as_slice())?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("interlock.v1.bin"), served)?;

    share_encodings(&mut descriptors)?;
    // With their names, messages find their descriptors.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    // Sorted maps make encodings, and so digests and tests, the same in every run.
    // What is Google's own comes from the crate that makes error details.
    tonic_prost_build::configure()
        .codec_path("crate::codec::Codec")
        .btree_map(".")
        .bytes(".")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// Writes the list of the page's files, which `src/web/page.rs` includes. It is empty if the page was not built.
fn embed_page() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join(PAGE);
    let mut list = String::from("/// The files of the page.\nconst FILES: &[PageFile] = &[\n");
    let is_built = folder.join("index.html").is_file();
    for (path, name, media_type) in PAGE_FILES.iter().filter(|_| is_built) {
        let file = folder.join(name);
        let mut hasher = DefaultHasher::new();
        fs::read(&file)?.hash(&mut hasher);
        let tag = format!("\"{:016x}\"", hasher.finish());
        let zipped = folder.join(format!("{name}.gz"));
        let gzip = if zipped.is_file() { format!("include_bytes!({zipped:?})") } else { "&[]".to_owned() };
        writeln!(
            list,
            "    PageFile {{ path: {path:?}, media_type: {media_type:?}, tag: {tag:?}, content: include_bytes!({file:?}), gzip: {gzip} }},"
        )?;
    }
    list.push_str("];\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("page.rs"), list)?;
    Ok(())
}

/// In the Rust code these fields hold messages that are encoded already, so that one encoding serves all who watch. On the
/// wire a message and bytes are the same; the descriptors that are served say what is in them.
fn share_encodings(descriptors: &mut FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    for path in SHARED {
        let (message, name) = path.rsplit_once('.').ok_or("a path has a message and a field")?;
        let mut messages = descriptors.file.iter_mut().flat_map(|file| {
            let package = format!(".{}", file.package());
            file.message_type.iter_mut().map(move |found| (format!("{package}.{}", found.name()), found))
        });
        let found = messages.find(|(full, _)| full == message).map(|(_, found)| found);
        let field = found.and_then(|found| found.field.iter_mut().find(|field| field.name() == name));
        let field = field.ok_or_else(|| format!("{path} is not there"))?;
        field.set_type(Type::Bytes);
        field.type_name = None;
    }
    Ok(())
}
