//! Reads the kernel's routes and neighbour entries from end to end, a piece at a time, so that nothing which
//! somebody waits for has to wait for all of them. Decides only the order: routes, then neighbour entries.
//!
//! Routes are read from a socket of their own. Where routes were added since the last piece the kernel begins the
//! next one anew at the root of its tree and skips what it has told, which takes ever longer and may skip too
//! much: the thread does not write in bulk meanwhile. Whatever a dump passed over is created anew, which the kernel
//! refuses with EEXIST, and that is a reason to compare again.

use std::io;
use std::sync::Mutex;

use super::entries::is_ours;
use super::follower::Follower;
use super::neighbors::Neighbors;
use super::netlink::{Piece, Requests};
use super::objects::{self, KernelRoute};
use super::thread::lock;

/// Datagrams of a dump read in one go: some 2,000 routes, 2 ms.
const DATAGRAMS: usize = 8;
/// Entries looked at in one go, after a dump.
const WALK: u32 = 16_384;
/// A dump that other writers keep interrupting is taken as it is after so many tries.
const TRIES: u8 = 3;

/// Where reading stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Idle,
    Routes(Dump),
    WalkRoutes,
    Neighbors(Dump),
    WalkNeighbors,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Dump {
    sequence: u32,
    was_interrupted: bool,
    tries: u8,
}

/// What one step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Go on.
    More,
    /// The routes were told: hear what happened meanwhile, then go on.
    RoutesTold,
    /// Everything was compared.
    Done,
}

/// The reader.
#[derive(Debug)]
pub(super) struct Reader {
    requests: Requests,
    stage: Stage,
    /// Of one go; empty between them.
    routes: Vec<KernelRoute>,
}

impl Reader {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            requests: Requests::open()?,
            stage: Stage::Idle,
            routes: Vec::new(),
        })
    }

    /// Whether nothing is being compared.
    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// Whether the routes are compared, and neighbour entries are next.
    pub(super) fn is_at_neighbors(&self) -> bool {
        matches!(self.stage, Stage::Neighbors(_) | Stage::WalkNeighbors)
    }

    /// Begins, or begins anew.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn begin(&mut self, follower: &Mutex<Follower>) -> io::Result<()> {
        self.stop()?;
        let table = {
            let mut follower = lock(follower);
            follower.comparison_begins();
            follower.policy().table
        };
        self.stage = Stage::Routes(self.ask_routes(table, TRIES)?);
        Ok(())
    }

    /// Gives up what is under way.
    ///
    /// # Errors
    /// No new socket.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        if !self.is_idle() {
            self.stage = Stage::Idle;
            // The rest of what was asked for must not be taken for a later answer, nor fill the buffer.
            self.requests = Requests::open()?;
        }
        Ok(())
    }

    /// One piece.
    ///
    /// # Errors
    /// The kernel refused, or answers were lost; the comparison has ended without a result.
    pub(super) fn step(
        &mut self,
        follower: &Mutex<Follower>,
        neighbors: &mut Neighbors,
    ) -> io::Result<Progress> {
        let result = self.advance(follower, neighbors);
        if result.is_err() {
            self.stop()?;
        }
        result
    }

    fn advance(
        &mut self,
        follower: &Mutex<Follower>,
        neighbors: &mut Neighbors,
    ) -> io::Result<Progress> {
        match self.stage {
            Stage::Idle => return Ok(Progress::Done),
            Stage::Routes(dump) => return self.read_routes(dump, follower),
            Stage::WalkRoutes => {
                if lock(follower).walk(WALK) {
                    neighbors.comparison_begins(&mut lock(follower).hops);
                    self.stage = Stage::Neighbors(self.ask_neighbors(TRIES)?);
                }
            }
            Stage::Neighbors(dump) => self.read_neighbors(dump, follower, neighbors)?,
            Stage::WalkNeighbors => {
                if neighbors.walk(&mut lock(follower).hops, WALK) {
                    self.stage = Stage::Idle;
                    return Ok(Progress::Done);
                }
            }
        }
        Ok(Progress::More)
    }

    fn read_routes(&mut self, dump: Dump, follower: &Mutex<Follower>) -> io::Result<Progress> {
        let mut guard = lock(follower);
        let mut routes = std::mem::take(&mut self.routes);
        let read = self.read(dump, |message| routes.extend(objects::read_route(&message)));
        guard.compare(&routes);
        routes.clear();
        self.routes = routes;
        let read = match read {
            // A table that holds nothing yet does not exist.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Read::Last,
            read => read?,
        };
        match read {
            Read::More(dump) => self.stage = Stage::Routes(dump),
            Read::Again => {
                self.stage = Stage::Routes(self.ask_routes(guard.policy().table, dump.tries - 1)?);
            }
            Read::Last => {
                guard.dump_ended();
                self.stage = Stage::WalkRoutes;
                return Ok(Progress::RoutesTold);
            }
        }
        Ok(Progress::More)
    }

    fn read_neighbors(
        &mut self,
        dump: Dump,
        follower: &Mutex<Follower>,
        neighbors: &mut Neighbors,
    ) -> io::Result<()> {
        let mut guard = lock(follower);
        let protocol = guard.policy().protocol;
        let hops = &mut guard.hops;
        let read = self.read(dump, |message| {
            if let Some(entry) = objects::read_neighbor(&message)
                && is_ours(&entry, protocol)
            {
                neighbors.compare(hops, &entry);
            }
        })?;
        self.stage = match read {
            Read::More(dump) => Stage::Neighbors(dump),
            Read::Again => Stage::Neighbors(self.ask_neighbors(dump.tries - 1)?),
            Read::Last => Stage::WalkNeighbors,
        };
        Ok(())
    }

    /// Reads some datagrams.
    fn read(
        &mut self,
        mut dump: Dump,
        mut each: impl FnMut(super::message::Message<'_>),
    ) -> io::Result<Read> {
        for _ in 0..DATAGRAMS {
            match self.requests.read_dump(dump.sequence, &mut each)? {
                Piece::More { was_interrupted } => dump.was_interrupted |= was_interrupted,
                Piece::Last { was_interrupted } => {
                    let again = (was_interrupted || dump.was_interrupted) && dump.tries > 1;
                    return Ok(if again { Read::Again } else { Read::Last });
                }
            }
        }
        Ok(Read::More(dump))
    }

    fn ask_routes(&mut self, table: u32, tries: u8) -> io::Result<Dump> {
        self.ask(tries, |batch, flags, sequence| {
            objects::dump_routes(batch, flags, sequence, table);
        })
    }

    fn ask_neighbors(&mut self, tries: u8) -> io::Result<Dump> {
        self.ask(tries, objects::dump_neighbors)
    }

    fn ask(
        &mut self,
        tries: u8,
        request: impl Fn(&mut super::message::Batch, u16, u32),
    ) -> io::Result<Dump> {
        Ok(Dump {
            sequence: self.requests.begin_dump(request)?,
            was_interrupted: false,
            tries,
        })
    }
}

/// What reading came to.
enum Read {
    More(Dump),
    Again,
    Last,
}
