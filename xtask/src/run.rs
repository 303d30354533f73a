//! Where the workspace is and how programs are started. Decides how a failure is told to a person:
//! errors are text that says what was tried and what to do. Knows nothing of what the programs do.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// What xtask returns: an error is a readable text, printed after `error:`.
pub type Result<T> = std::result::Result<T, String>;

/// The root of the workspace that is being worked on. Read at run time: a path baked in at compile
/// time would make a copied tree build the checkout that it was copied from.
pub fn root() -> PathBuf {
    if let Some(package) = env::var_os("CARGO_MANIFEST_DIR")
        && let Some(root) = Path::new(&package).parent()
    {
        return root.to_owned();
    }
    let here = env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    here.ancestors()
        .find(|dir| dir.join("relay-ebpf/Cargo.toml").is_file())
        .map_or_else(|| here.clone(), Path::to_owned)
}

/// Cargo, started in the root of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Shows a command, runs it with this terminal as its output and without input.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", shown(command));
    let status = status(command)?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{} failed: {status}", shown(command)))
}

/// Runs a command with this terminal as its output and without input, whatever its exit code.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("cannot start {}: {error}", shown(command)))
}

/// Runs a command and returns what it printed, without the blanks around it.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {}: {error}", shown(command)))?;
    if !output.status.success() {
        return Err(format!(
            "{} failed: {}: {}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// The first program of that name in `PATH` or the sbin folders, which are not in every `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Writes a file so that nobody ever sees half of it.
pub fn write_atomically(file: &Path, content: &[u8]) -> Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).map_err(|error| format!("create {}: {error}", dir.display()))?;
    }
    let temporary = file.with_added_extension(format!("tmp{}", std::process::id()));
    fs::write(&temporary, content)
        .and_then(|()| fs::rename(&temporary, file))
        .map_err(|error| format!("write {}: {error}", file.display()))
}

/// Whether this process may create network namespaces and load kernel programs.
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .and_then(|ids| ids.split_whitespace().nth(1))
            == Some("0")
    })
}

/// All files below `dir` whose name ends in `.extension`, sorted, as paths below `dir`.
/// Hidden folders, build output and symbolic links are left out.
pub fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder)
            .map_err(|error| format!("read folder {}: {error}", folder.display()))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("read {}: {error}", folder.display()))?;
            let kind = entry
                .file_type()
                .map_err(|error| format!("read {}: {error}", entry.path().display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() && !name.starts_with('.') && name != "target" {
                open.push(entry.path());
            } else if kind.is_file() && Path::new(&name).extension().is_some_and(|e| e == extension)
            {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found
        .into_iter()
        .map(|file| file.strip_prefix(dir).map_or(file.clone(), Path::to_owned))
        .collect())
}
