//! `ampoule`: the person's hand. Each command parses its arguments, makes one library call and prints the result.
//!
//! Exit codes: 0 it is done; 1 it was refused or failed, and the number on standard error says why; 2 the arguments were
//! not understood.
#![forbid(unsafe_code)]

mod approval;
mod backup;
mod ca;
mod ceremony;
mod device;
mod external;
mod files;
mod generate;
mod image;
mod journal;
mod key;
mod out;
mod port;
mod release;
mod service;
mod session;
mod signing;
mod token;
mod trust;
mod worlds;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keys::Code;

use crate::out::Out;

/// Secure firmware updates with one trust root, from an engineer's build to a confirmed device.
#[derive(Parser)]
#[command(name = "ampoule", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done; 1 refused or failed (the number says why); 2 arguments not understood.")]
pub(crate) struct Cli {
    /// Print one JSON document instead of prose; errors go to standard error as JSON too
    #[arg(long, global = true)]
    json: bool,
    /// PKCS#11 library of the vendor, for keys in tokens that do not name it (module-path=FILE in their URI)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "AMPOULE_PKCS11_MODULE",
        hide_env_values = true
    )]
    pkcs11_module: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make and look at private keys
    #[command(subcommand, arg_required_else_help = true)]
    Key(key::Command),
    /// Make, restore and try backups of key files in M-of-N shares
    #[command(subcommand, arg_required_else_help = true)]
    Backup(backup::Command),
    /// Certificates for devices, servers and people: a private CA with its root
    #[command(subcommand, arg_required_else_help = true)]
    Ca(Box<ca::Command>),
    /// Make keys and roots together, by a script, with a signed record
    #[command(subcommand, arg_required_else_help = true)]
    Ceremony(ceremony::Command),
    /// Sign, verify and look at firmware images (MCUboot format; imgtool's option names)
    #[command(subcommand, arg_required_else_help = true)]
    Image(image::Command),
    /// Make, sign, rotate and look at trust roots, revocation lists and time files
    #[command(subcommand, arg_required_else_help = true)]
    Trust(trust::Command),
    /// Make, sign, verify and look at releases
    #[command(subcommand, arg_required_else_help = true)]
    Release(release::Command),
    /// Read and check the journal of all signatures
    #[command(subcommand, arg_required_else_help = true)]
    Journal(journal::Command),
    /// Sign development releases and images for build systems, over a socket and by a policy
    SignService(service::SignService),
    /// Talk to a device over a serial port
    #[command(subcommand, arg_required_else_help = true)]
    Device(device::Command),
    /// Write shell completions and manual pages
    #[command(subcommand, hide = true, arg_required_else_help = true)]
    Generate(generate::Command),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let out = Out { json: cli.json };
    token::use_module(cli.pkcs11_module);
    let done = match cli.command {
        Command::Key(command) => key::run(command, out),
        Command::Backup(command) => backup::run(command, out),
        Command::Ca(command) => ca::run(*command, out),
        Command::Ceremony(command) => ceremony::run(command, out),
        Command::Image(command) => image::run(command, out),
        Command::Trust(command) => trust::run(command, out),
        Command::Release(command) => release::run(command, out),
        Command::Journal(command) => journal::run(command, out),
        Command::SignService(service) => service.run(out),
        Command::Device(command) => device::run(command, out),
        Command::Generate(command) => generate::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.failure(&error);
            ExitCode::FAILURE
        }
    }
}

/// Help, the version, or arguments that say nothing: as clap tells it, but to a script that asked for JSON as JSON.
fn not_understood(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().skip(1).any(|argument| argument == "--json");
    if wants_json && error.use_stderr() {
        let told = error.render().to_string();
        let what = told
            .trim_start_matches("error: ")
            .split("\n\n")
            .next()
            .unwrap_or_default();
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        Out { json: true }.failure(&Code::Argument.error(what));
    } else {
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
