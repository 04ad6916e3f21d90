//! `portcullis compress DIR`: makes the compressed siblings that the gateway sends in place of static files.
//!
//! Exit codes: 0 done (a file that was skipped is a warning), 1 something could not be read or written.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::{fail, print};
use crate::files::precompress::{Found, Made, Precompress, Trouble, prune};
use crate::http::coding::Coding;
use crate::observe::Chain;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Files that compress (text, scripts, JSON, SVG, WebAssembly, plain fonts, source maps) of 1 KiB to 256 MiB get siblings: app.js.zst,
app.js.br and app.js.gz beside app.js, as old as it is. A sibling that would not be 5 % smaller is not made, one that is there and not
older than its file is left alone. Symbolic links and hidden files are passed over. A file that changes meanwhile is skipped with a warning.

Examples:
  portcullis compress staticfiles                 after `manage.py collectstatic`
  portcullis compress staticfiles --dry-run       say what would be made
  portcullis compress dist --codings br,gzip --jobs 4
  portcullis compress dist --prune                remove siblings of files that are gone

The exit code is 1 if a file could not be read or a sibling not be written.")]
pub(super) struct Compress {
    /// The directory, with everything below it.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Which siblings to make.
    #[arg(long, value_name = "CODING", value_delimiter = ',', default_value = "zstd,br,gzip", value_parser = coding)]
    codings: Vec<Coding>,
    /// How many files at once; one a processor by default. Each may take some 100 MiB.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<u8>>,
    /// Make siblings anew that are there and good.
    #[arg(long)]
    force: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Remove siblings whose file is gone. Archives stay.
    #[arg(long)]
    prune: bool,
}

/// Why there is nothing to compress.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", .path.display())]
struct Unreadable {
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn coding(name: &str) -> Result<Coding, String> {
    let known = || Coding::ALL.map(Coding::name).join(", ");
    Coding::ALL.into_iter().find(|coding| coding.name() == name).ok_or_else(|| format!("known codings: {}", known()))
}

pub(super) fn run(arguments: &Compress) -> ExitCode {
    let mut codings = Vec::new();
    for coding in &arguments.codings {
        if !codings.contains(coding) {
            codings.push(*coding);
        }
    }
    let processors = || available_parallelism().map_or(1, NonZero::get);
    let jobs = arguments.jobs.map_or_else(processors, |jobs| jobs.get().into());
    let work = Precompress { root: arguments.directory.clone(), codings, jobs, force: arguments.force };
    let mut found = match work.find() {
        Ok(found) => found,
        Err(source) => return fail(&Unreadable { path: work.root, source }),
    };
    if arguments.dry_run {
        let failed = warn(&found.troubles);
        let printed = print(&intended(&found, arguments.prune));
        return if failed { ExitCode::FAILURE } else { printed };
    }
    let mut made = make(&work, &found);
    let mut troubles = std::mem::take(&mut found.troubles);
    troubles.append(&mut made.troubles);
    let mut text = summary(&work, &found, &made);
    if arguments.prune {
        let mut kept = prune(&found.orphans);
        writeln!(text, "pruned {}", files(found.orphans.len() - kept.len())).expect("a string takes any text");
        troubles.append(&mut kept);
    }
    let failed = warn(&troubles);
    let printed = print(&text);
    if failed { ExitCode::FAILURE } else { printed }
}

/// Makes what is wanting, behind a bar on a terminal: it is not drawn elsewhere.
fn make(work: &Precompress, found: &Found) -> Made {
    let bytes = found.wanting.iter().map(|one| one.bytes).sum();
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta} {msg}") {
        bar.set_style(style);
    }
    let made = work.make(&found.wanting, &|one| {
        bar.set_message(below(&work.root, &one.path));
        bar.inc(one.bytes);
    });
    bar.finish_and_clear();
    made
}

fn below(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string().escape_debug().to_string()
}

/// Says what went wrong; whether any of it is more than a warning.
fn warn(troubles: &[Trouble]) -> bool {
    for trouble in troubles {
        let word = if trouble.cause.is_failure() { "error" } else { "warning" };
        // Nowhere is left to say it if this fails too.
        writeln!(io::stderr(), "{word}: {}", Chain(trouble)).ok();
    }
    troubles.iter().any(|trouble| trouble.cause.is_failure())
}

fn intended(found: &Found, prune: bool) -> String {
    let mut text = String::new();
    for one in &found.wanting {
        for coding in &one.codings {
            writeln!(text, "would make {}{}", one.path.display(), coding.suffix()).expect("a string takes any text");
        }
    }
    for orphan in found.orphans.iter().filter(|_| prune) {
        writeln!(text, "would remove {}", orphan.display()).expect("a string takes any text");
    }
    if text.is_empty() { "nothing to do\n".to_owned() } else { text }
}

fn summary(work: &Precompress, found: &Found, made: &Made) -> String {
    let mut text = format!("{} compressed, {} passed over\n", files(found.wanting.len()), found.passed_over);
    for coding in work.codings.iter().map(|coding| coding.name()) {
        let tally = made.codings.get(coding).copied().unwrap_or_default();
        let current = found.current.get(coding).copied().unwrap_or_default();
        let (before, after) = (HumanBytes(tally.before), HumanBytes(tally.after));
        writeln!(
            text,
            "{coding:<5} {} made ({before} to {after}), {current} current, {} hardly smaller",
            tally.written, tally.not_worth_it
        )
        .expect("a string takes any text");
    }
    text
}

fn files(number: usize) -> String {
    format!("{number} file{}", if number == 1 { "" } else { "s" })
}
