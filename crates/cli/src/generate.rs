//! `ampoule generate`: shell completions and manual pages, for packagers.

use std::io;
use std::path::PathBuf;

use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;
use keys::{Code, Result};

use crate::Cli;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write one manual page for each command to a directory
    Man {
        /// The directory, which must exist
        directory: PathBuf,
    },
}

/// Runs one `ampoule generate` command.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "ampoule", &mut io::stdout());
            Ok(())
        }
        Command::Man { directory } => clap_mangen::generate_to(Cli::command(), &directory)
            .map_err(|error| Code::FileWrite.error(format!("{} cannot be written: {error}", directory.display()))),
    }
}
