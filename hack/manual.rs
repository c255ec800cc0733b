// SPDX-License-Identifier: Apache-2.0
//! Writes the man pages, one for each command, and the completions for bash, zsh and fish, from the one table of flags
//! (`src/cli/table.rs`). Not part of the program.
//!
//! usage: cargo run --example manual -- DIR

use std::fs;
use std::io::{self, Error};
use std::path::Path;

use berth::cli::args;
use clap_complete::Shell;

/// The program; the test of `src/cli/manual_tests.rs` calls [`write`] itself.
#[allow(dead_code)]
fn main() -> io::Result<()> {
    let dir = std::env::args().nth(1).ok_or_else(|| Error::other("usage: cargo run --example manual -- DIR"))?;
    write(Path::new(&dir))
}

/// Writes them into the folders `man` and `completions` of `dir`.
pub fn write(dir: &Path) -> io::Result<()> {
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let mut program = args::overview("berth").version(env!("CARGO_PKG_VERSION")).disable_version_flag(true);
    page(&man, &program)?;
    for command in program.get_subcommands() {
        // clap wants names that live as long as the program does.
        let name: &'static str = format!("berth-{}", command.get_name()).leak();
        page(&man, &command.clone().name(name).version(env!("CARGO_PKG_VERSION")).disable_version_flag(true))?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut program, "berth", &completions)?;
    }
    Ok(())
}

/// One page of section 8: system administration.
fn page(dir: &Path, command: &clap::Command) -> io::Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).section("8").manual("Container runtime").render(&mut text)?;
    fs::write(dir.join(format!("{}.8", command.get_name())), text)
}
