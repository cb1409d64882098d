//! Fuzz targets: what each decoder promises about any bytes at all, beyond not to panic.
//!
//! A target is a module with `pub fn run(data: &[u8])`, a line in [`TARGETS`], a file in `fuzz_targets/`, a `[[bin]]` and
//! at least one file in `corpus/<name>/`. `cargo test` replays and bends the corpus; `cargo fuzz run <name>` searches.

#![forbid(unsafe_code)]

pub mod cbor;
pub mod ceremony_files;
pub mod envelope_head;
pub mod host_files;
pub mod lms;
pub mod mailbox;
pub mod manifest;
pub mod mcuboot;
pub mod members;
pub mod receiving;
pub mod root_file;
pub mod script;
pub mod smp_body;
pub mod smp_frame;
pub mod smp_recovery;
pub mod smp_server;
pub mod text_and_keys;

/// A target's name and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("cbor", cbor::run),
    ("ceremony_files", ceremony_files::run),
    ("envelope_head", envelope_head::run),
    ("host_files", host_files::run),
    ("lms", lms::run),
    ("mailbox", mailbox::run),
    ("manifest", manifest::run),
    ("mcuboot", mcuboot::run),
    ("members", members::run),
    ("receiving", receiving::run),
    ("root_file", root_file::run),
    ("smp_body", smp_body::run),
    ("smp_frame", smp_frame::run),
    ("smp_recovery", smp_recovery::run),
    ("smp_server", smp_server::run),
    ("text_and_keys", text_and_keys::run),
];

/// The entry of a fuzz target: libFuzzer's under `cargo fuzz`; otherwise runs the files that are named as arguments, for
/// looking at what was found.
#[macro_export]
macro_rules! target {
    ($run:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $run(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            std::env::args_os()
                .skip(1)
                .try_for_each(|file| std::fs::read(file).map(|data| $run(&data)))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    #[test]
    fn every_target_has_its_file_and_its_corpus() {
        let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let stems = |name: &str| -> BTreeSet<_> {
            files(&folder(name))
                .iter()
                .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(names, stems("fuzz_targets"));
        assert_eq!(names, stems("corpus"));
    }

    /// Bytes up to which every place of a corpus file is bent; larger files are bent at every 61st.
    const BENT_EVERYWHERE_BYTES: usize = 2_048;

    /// Runs a file as it is, cut short at each place, and with each byte changed in three ways.
    fn replay(run: fn(&[u8]), data: &[u8]) {
        run(data);
        let step = if data.len() <= BENT_EVERYWHERE_BYTES { 1 } else { 61 };
        for at in (0..data.len()).step_by(step) {
            run(&data[..at]);
            for change in [0x01, 0x80, 0xff] {
                let mut bent = data.to_vec();
                bent[at] ^= change;
                run(&bent);
            }
        }
    }

    #[test]
    fn the_corpus_holds() {
        for (name, run) in TARGETS {
            let files = files(&folder("corpus").join(name));
            assert!(!files.is_empty(), "{name} has no corpus");
            for file in files {
                println!("{}", file.display());
                replay(*run, &std::fs::read(&file).expect("a readable file"));
            }
        }
    }
}
