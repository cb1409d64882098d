//! `ampoule-agent`: what a Linux device runs. Each command parses its arguments, makes one library call and prints.
//!
//! Exit codes: 0 it is done; 1 it was refused or failed, and the number on standard error says why; 2 the arguments were
//! not understood.
#![forbid(unsafe_code)]

mod command;

use std::process::ExitCode;

use clap::Parser;

/// The part of Ampoule that runs on a Linux device.
#[derive(Parser)]
#[command(name = "ampoule-agent", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done; 1 refused or failed (the number says why); 2 arguments not understood.")]
enum Cli {
    /// The device's vault: its secret, its key, its counter
    #[command(subcommand, arg_required_else_help = true)]
    Vault(command::Vault),
}

fn main() -> ExitCode {
    let Cli::Vault(vault) = Cli::parse();
    match vault.run() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
