//! The unix socket file: replaced where its daemon is dead, refused where it lives, gone at the
//! end. Mode 0660, group `twinrelay` where that group exists.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// The group that may use the socket.
pub const GROUP: &str = "twinrelay";

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A daemon answers on it.
    #[error("another twinrelay runs: it answers on {}; stop it first, or set another run_dir", .0.display())]
    Taken(PathBuf),
    /// The file system refused.
    #[error("cannot make {}: {error}; check run_dir and its permissions", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// A bound socket; dropping it removes the file.
#[derive(Debug)]
pub struct ControlSocket {
    listener: Option<UnixListener>,
    path: PathBuf,
}

/// Makes `run_dir` and the socket in it.
///
/// # Errors
/// [`BindError`]. Call within a tokio runtime.
pub fn bind(run_dir: &Path) -> Result<ControlSocket, BindError> {
    let path = run_dir.join("control.sock");
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |error| BindError::Io { path, error }
    };
    std::fs::create_dir_all(run_dir).map_err(io_error(run_dir))?;
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(BindError::Taken(path));
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error(&path)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(io_error(&path))?;
    let socket = ControlSocket {
        listener: Some(listener),
        path: path.clone(),
    };
    give_to_group(&path).map_err(io_error(&path))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))
        .map_err(io_error(&path))?;
    Ok(socket)
}

fn give_to_group(path: &Path) -> io::Result<()> {
    let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) else {
        return Ok(());
    };
    match nix::unistd::chown(path, None, Some(group.gid)) {
        // Not root and not in the group: the owner alone uses the socket.
        Ok(()) | Err(nix::errno::Errno::EPERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl ControlSocket {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn serve(mut self, router: Router, stop: CancellationToken) -> io::Result<()> {
        let listener = self.listener.take().expect("serve consumes the socket");
        // Streams of events never end by themselves: stopping drops the connections.
        tokio::select! {
            result = axum::serve(listener, router) => result,
            () = stop.cancelled() => Ok(()),
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Gone already, or the folder is: nothing is left to remove.
        let _ = std::fs::remove_file(&self.path);
    }
}
