//! Query parameters of the control socket → what the core is asked for.

use std::collections::BTreeMap;

use relay_common::net::MacAddr;
use relay_core::input::Clear;
use relay_core::types::{AccessId, Prefix};
use relay_core::view::{BindingState, Filter};

use super::ControlContext;
use super::json::parse_hex;
use crate::names::read_origin;

/// Why a question cannot be asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum FilterError {
    /// No such key.
    #[error("unknown parameter `{0}`")]
    UnknownKey(String),
    /// Not a value for it.
    #[error("`{0}` cannot be \"{1}\"")]
    BadValue(String, String),
    /// Not configured.
    #[error("no access interface is named `{0}`; see `twinrelay show interfaces`")]
    UnknownInterface(String),
    /// `clear` without saying what.
    #[error("exactly one of `prefix`, `duid` and `interface` is needed")]
    NotOne,
}

/// What the core is asked for, and how much of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub filter: Filter,
    pub limit: Option<usize>,
    /// No lease can match: nobody of that name has told us any.
    pub nothing: bool,
}

type Words = BTreeMap<String, String>;

impl Asked {
    pub(super) fn from_words(words: &Words, context: &ControlContext) -> Result<Self, FilterError> {
        let mut asked = Self::default();
        for (key, value) in words {
            let bad = || FilterError::BadValue(key.clone(), value.clone());
            let filter = &mut asked.filter;
            match key.as_str() {
                "interface" => filter.access = Some(access(value, context)?),
                "prefix" => filter.prefix = Some(prefix(value).ok_or_else(bad)?),
                "duid" => filter.duid = Some(parse_hex(value).ok_or_else(bad)?),
                "mac" => filter.mac = Some(mac(value).ok_or_else(bad)?),
                "state" => filter.state = Some(state(value).ok_or_else(bad)?),
                "origin" => {
                    read_origin(value).ok_or_else(bad)?;
                    filter.origin = context.surroundings.borrow().names.origin_by_name(value);
                    asked.nothing = filter.origin.is_none();
                }
                "limit" => asked.limit = Some(value.parse().map_err(|_| bad())?),
                _ => return Err(FilterError::UnknownKey(key.clone())),
            }
        }
        Ok(asked)
    }
}

/// What `POST /v1/clear/binding` removes.
pub(super) fn clear_from_words(
    words: &Words,
    context: &ControlContext,
) -> Result<Clear, FilterError> {
    let mut words = words.iter();
    let (Some((key, value)), None) = (words.next(), words.next()) else {
        return Err(FilterError::NotOne);
    };
    let bad = || FilterError::BadValue(key.clone(), value.clone());
    match key.as_str() {
        "prefix" => prefix(value).map(Clear::Lease).ok_or_else(bad),
        "duid" => parse_hex(value).map(Clear::Client).ok_or_else(bad),
        "interface" => access(value, context).map(Clear::Interface),
        _ => Err(FilterError::UnknownKey(key.clone())),
    }
}

fn access(name: &str, context: &ControlContext) -> Result<AccessId, FilterError> {
    let surroundings = context.surroundings.borrow();
    let found = surroundings.relay.access.iter().find(|it| it.name == name);
    found
        .map(|access| access.id)
        .ok_or_else(|| FilterError::UnknownInterface(name.to_owned()))
}

fn prefix(text: &str) -> Option<Prefix> {
    crate::cli::lease(text).ok()
}

fn mac(text: &str) -> Option<MacAddr> {
    parse_hex(text)?.try_into().ok().map(MacAddr)
}

fn state(text: &str) -> Option<BindingState> {
    use BindingState::{Active, Declined, Expired, Released};
    [Active, Expired, Released, Declined]
        .into_iter()
        .find(|state| state.name() == text)
}
