//! Lists the built web app for embedding. Never runs npm and never needs the network: without `web/dist` the program
//! carries a page that says how to build it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const FALLBACK: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Grove</title>\n\
    <h1>The web app is not built in</h1>\n<p>Run <code>make run</code> in the repository: it builds the app and starts \
    the server again.</p>\n</html>\n";

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names the directory"));
    let root =
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the directory"));
    let dist = root.join("../../web/dist");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut files = Vec::new();
    let has_app = dist.join("index.html").is_file();
    if has_app {
        gather(&dist, &dist, &mut files);
    } else {
        let page = out.join("index.html");
        std::fs::write(&page, FALLBACK).expect("the build directory can be written");
        files.push(("index.html".to_owned(), page));
    }
    files.sort();
    let mut code = format!(
        "const HAS_APP: bool = {has_app};\n/// Sorted by path.\npub static ASSETS: &[Asset] = &[\n"
    );
    // Copies, because the app may be built again while the compiler reads.
    let copies = out.join("web");
    std::fs::create_dir_all(&copies).expect("the build directory can be written");
    for (n, (path, file)) in files.iter().enumerate() {
        let bytes = std::fs::read(file)
            .expect("a listed file can be read: was the app built at the same time?");
        let copy = copies.join(n.to_string());
        std::fs::write(&copy, &bytes).expect("the build directory can be written");
        let tag = format!("\"{:016x}-{:x}\"", fingerprint(&bytes), bytes.len());
        let copy = copy.display().to_string();
        writeln!(
            code,
            "Asset {{ path: {path:?}, bytes: include_bytes!({copy:?}), tag: {tag:?} }},"
        )
        .expect("a string takes everything");
    }
    code.push_str("];\n");
    std::fs::write(out.join("assets.rs"), code).expect("the build directory can be written");
}

fn gather(root: &Path, directory: &Path, files: &mut Vec<(String, PathBuf)>) {
    for entry in std::fs::read_dir(directory)
        .expect("web/dist can be read")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            gather(root, &path, files);
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            files.push((name.to_owned(), path));
        }
    }
}

/// FNV-1a, 64 bits: an entity tag has to differ, not to withstand anybody.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
