//! `ampoule trust`.

use clap::Subcommand;

use crate::out::Out;

#[derive(Subcommand)]
pub(crate) enum Command {}

/// Runs one `ampoule trust` command.
pub(crate) fn run(command: Command, _out: Out) -> keys::Result<()> {
    match command {}
}
