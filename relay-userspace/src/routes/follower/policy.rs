//! The part of the configuration that decides how routes look in the kernel.

use relay_core::types::Prefix;

use crate::config::RoutesSection;

/// The metric that the kernel gives to routes that ask for none.
const KERNEL_DEFAULT_METRIC: u32 = 1024;

/// The part of `[routes]` that decides how routes look in the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Table.
    pub table: u32,
    /// Our mark.
    pub protocol: u8,
    /// Metric of leases.
    pub metric: u32,
    /// Unreachable routes.
    pub aggregates: Vec<Prefix>,
}

impl Policy {
    /// From the configuration; without `enabled` there are no aggregates.
    pub fn new(section: &RoutesSection) -> Self {
        Self {
            table: section.table,
            protocol: section.protocol,
            metric: match section.metric {
                0 => KERNEL_DEFAULT_METRIC,
                metric => metric,
            },
            aggregates: match section.enabled {
                true => section.aggregates.clone(),
                false => Vec::new(),
            },
        }
    }

    /// Aggregates are one worse than leases: where a whole aggregate is delegated to one client,
    /// its route wins, and the two do not collide in the kernel.
    pub fn aggregate_metric(&self) -> u32 {
        self.metric.saturating_add(1)
    }

    /// Whether both name the same routes.
    pub fn same_place(&self, other: &Self) -> bool {
        (self.table, self.protocol, self.metric) == (other.table, other.protocol, other.metric)
    }
}
