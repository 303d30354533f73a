//! The words of the command line. Decides what may be said and in which form; what it means is
//! `main.rs`'s and `client`'s.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use relay_core::types::Prefix;

/// A DHCPv6 relay that learns every lease and makes the kernel route to it.
#[derive(Parser, Debug)]
#[command(
    name = "twinrelay",
    version,
    max_term_width = 100,
    propagate_version = true
)]
#[command(
    after_help = "Exit codes: 0 done, 1 the answer is no, 2 usage or configuration, \
                        3 the daemon cannot be reached, 4 it refused."
)]
pub struct Cli {
    /// Where the daemon is, and its file.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Where the daemon is, and its file.
#[derive(Args, Clone, Debug, Default)]
pub struct Place {
    /// Configuration file [default: /etc/twinrelay/twinrelay.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Control socket of the daemon [default: control.sock in the run_dir of the configuration]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Run the daemon, in the foreground, logging to standard error
    ///
    /// SIGHUP reloads the configuration; a bad file changes nothing. SIGTERM and SIGINT stop.
    Run,
    /// Check a configuration file: every fault with its line and what is expected there
    Check,
    /// Show what the daemon knows
    Show(Show),
    /// Print events of bindings, routes, servers, peers and readiness, one a line, until interrupted
    Monitor {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Watch message rates, bindings and drops in the terminal
    Top,
    /// Remove bindings with their routes, or zero the counters
    Clear {
        /// One JSON document on standard output
        #[arg(long, global = true)]
        json: bool,
        /// What to clear.
        #[command(subcommand)]
        what: Clear,
    },
    /// Ask the daemon for something that it would do later, or never
    Request {
        /// One JSON document on standard output
        #[arg(long, global = true)]
        json: bool,
        /// What to ask for.
        #[command(subcommand)]
        what: Request,
    },
    /// Whether this relay may attract traffic, and why: exit code 0 or 1
    ///
    /// Made for keepalived's `vrrp_script`; the file `ready` in run_dir says the same.
    Ready {
        /// One JSON document on standard output
        #[arg(long)]
        json: bool,
    },
    /// Certificates of a pair of relays
    Tls {
        /// What to do.
        #[command(subcommand)]
        what: Tls,
    },
    /// Print the completion script of a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// An existing folder
        dir: PathBuf,
    },
}

/// `show`.
#[derive(Args, Debug)]
pub struct Show {
    /// One JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// What to show.
    #[command(subcommand)]
    pub what: Shown,
}

/// What can be shown.
#[derive(Subcommand, Debug)]
pub enum Shown {
    /// Clients with their leases, one a row
    Subscribers {
        /// One block per client with all that is known of it
        #[arg(long)]
        extensive: bool,
        /// Which ones.
        #[command(flatten)]
        filter: Filters,
    },
    /// Leases, one a row
    Bindings {
        /// Which ones.
        #[command(flatten)]
        filter: Filters,
    },
    /// Routes that the daemon wants, and whether they are in the kernel
    Routes {
        /// Only what is different: wanted and not in the kernel, in the kernel and not wanted, in the way
        #[arg(long)]
        diff: bool,
    },
    /// Access and core interfaces: link, addresses, capture
    Interfaces,
    /// Servers and whether they answer
    Servers,
    /// Sessions with other relays, and with servers that are asked for bindings
    #[command(alias = "alq")]
    ActiveLeasequery {
        /// What of them.
        #[command(subcommand)]
        what: ShownLeasequery,
    },
    /// Active bindings as one number for each link: equal on relays that hold the same
    Digest,
    /// Everything that is counted, without the zeroes
    Statistics,
    /// Kernel programs, their maps, and what they dropped and why
    Dataplane,
    /// Version and age of the running daemon
    Version,
}

/// What can be shown of Active Leasequery.
#[derive(Subcommand, Debug)]
pub enum ShownLeasequery {
    /// One row for each session: its state, its progress, what went wrong last
    Neighbors {
        /// Only of this peer or server
        name: Option<String>,
    },
    /// Messages by type, and status codes
    Statistics {
        /// Only of this peer or server
        name: Option<String>,
    },
}

/// What can be asked for.
#[derive(Subcommand, Debug)]
pub enum Request {
    /// Of Active Leasequery
    #[command(alias = "alq")]
    ActiveLeasequery {
        /// What.
        #[command(subcommand)]
        what: RequestLeasequery,
    },
    /// Ask a server for all bindings now
    BulkLeasequery {
        /// Its name [default: all with bulk_leasequery = true]
        server: Option<String>,
    },
}

/// What can be asked for of Active Leasequery.
#[derive(Subcommand, Debug)]
pub enum RequestLeasequery {
    /// Drop the session and catch up from nothing; until then this relay is not ready
    Resync {
        /// With this peer [default: all]
        name: Option<String>,
    },
}

/// `tls`.
#[derive(Subcommand, Debug)]
pub enum Tls {
    /// Make a private CA and the certificates of a pair, and print the lines to paste on each side
    Init {
        /// The name of this relay
        #[arg(long, value_parser = relay_name)]
        name: String,
        /// The name of the other relay
        #[arg(long, value_parser = relay_name)]
        peer: String,
        /// Where to; nothing there is overwritten
        dir: PathBuf,
    },
}

/// Which clients or leases; all that are given must match.
#[derive(Args, Clone, Debug, Default)]
pub struct Filters {
    /// On this access interface
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// That cover this prefix or address, or lie inside it
    #[arg(long, value_name = "PREFIX", value_parser = lease)]
    pub prefix: Option<Prefix>,
    /// Of this client, in hex
    #[arg(long, value_parser = duid)]
    pub duid: Option<String>,
    /// Of this MAC address
    #[arg(long, value_parser = mac)]
    pub mac: Option<String>,
    /// Learned this way: snooped, or active-leasequery:NAME, bulk-leasequery:NAME, leasequery:NAME
    #[arg(long)]
    pub origin: Option<String>,
    /// In this state
    #[arg(long)]
    pub state: Option<State>,
    /// At most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// The state of a lease.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The client may use it
    Active,
    /// Its time ran out
    Expired,
    /// The client gave it up
    Released,
    /// The client found it in use
    Declined,
}

/// What can be cleared.
#[derive(Subcommand, Debug)]
pub enum Clear {
    /// Remove one lease, one client's leases, or one interface's
    ///
    /// The client is not told: it keeps its address or prefix until it renews.
    Binding(ClearBinding),
    /// Zero the daemon's counters
    Statistics,
}

/// Exactly one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct ClearBinding {
    /// The leased prefix or address
    #[arg(value_name = "PREFIX|ADDRESS", value_parser = lease)]
    pub lease: Option<Prefix>,
    /// Every lease of this client, in hex
    #[arg(long, value_parser = duid)]
    pub duid: Option<String>,
    /// Every lease on this access interface
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
}

/// An address or a prefix; host bits are refused, since a cut prefix would mean another lease.
pub fn lease(text: &str) -> Result<Prefix, String> {
    let expected = "expected an IPv6 address or prefix such as 2001:db8:100::/56";
    let Some((address, bits)) = text.split_once('/') else {
        return text
            .parse()
            .map(Prefix::host)
            .map_err(|_| expected.to_owned());
    };
    let address: Ipv6Addr = address.parse().map_err(|_| expected)?;
    let bits = bits.parse().map_err(|_| expected)?;
    let prefix = Prefix::new(address, bits).ok_or(expected)?;
    if prefix.address() != address {
        return Err(format!("host bits are set; did you mean {prefix}?"));
    }
    Ok(prefix)
}

/// A name that a file, a certificate and a configuration can bear.
fn relay_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let is_host = rustls::pki_types::DnsName::try_from(text).is_ok();
    (is_host && text.len() <= 64 && text.chars().all(is_plain))
        .then(|| text.to_owned())
        .ok_or_else(|| "expected a host name such as r1".to_owned())
}

fn duid(text: &str) -> Result<String, String> {
    crate::control::json::parse_hex(text)
        .map(|bytes| crate::control::json::colon_hex(&bytes))
        .ok_or_else(|| "expected hex bytes such as 00:03:00:01:02:00:00:00:00:01".to_owned())
}

fn mac(text: &str) -> Result<String, String> {
    crate::control::json::parse_hex(text)
        .filter(|bytes| bytes.len() == 6)
        .map(|bytes| crate::control::json::colon_hex(&bytes))
        .ok_or_else(|| "expected a MAC address such as 02:00:00:00:00:01".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lease_with_host_bits_names_the_prefix_meant() {
        assert_eq!(
            lease("2001:db8::1/56"),
            Err("host bits are set; did you mean 2001:db8::/56?".to_owned())
        );
        assert_eq!(
            lease("2001:db8::1"),
            Ok(Prefix::host("2001:db8::1".parse().unwrap()))
        );
    }

    #[test]
    fn clear_binding_takes_exactly_one_choice() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' '));

        assert!(parse("twinrelay clear binding").is_err());
        assert!(parse("twinrelay clear binding 2001:db8:: --interface a").is_err());
        assert!(parse("twinrelay clear binding --interface a").is_ok());
    }
}
