//! Plain mirrors of the few fields that decide, read once from raw objects. What is wrong with a field is noted, and the object
//! is kept; nothing here knows of other objects.

pub(crate) mod authorization;
pub(crate) mod istio;
pub(crate) mod kube;
pub(crate) mod mesh_config;
pub(crate) mod policy;
pub(crate) mod read;
pub(crate) mod virtual_service;

use arcstr::ArcStr;

use crate::id::ObjectRef;
use crate::mesh::object::read::{At, Labels, label};

pub(crate) use istio::{
    DestinationRule, Endpoint, Gateway, OutboundPolicy, Policy, PolicyMode, Resolution, Server, ServiceEntry, Sidecar,
    Subset, TlsMode, TlsSettings, TlsSettingsMode, WorkloadEntry,
};
pub(crate) use kube::{EndpointSlice, Namespace, PodSpec, Service, ServiceType};
pub(crate) use mesh_config::MeshConfig;
pub(crate) use virtual_service::{
    HttpAction, HttpMatch, HttpRule, L4Match, L4Rule, Route, Semantics, StringMatch, VirtualService,
};

/// What every object has.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) object: ObjectRef,
    /// Nanoseconds since 1970; an object without a timestamp is older than every other (Go's zero time).
    pub(crate) created: i64,
    pub(crate) labels: Labels,
}

impl Meta {
    pub(crate) fn namespace(&self) -> &ArcStr {
        &self.object.name.namespace
    }

    pub(crate) fn name(&self) -> &ArcStr {
        &self.object.name.name
    }

    pub(crate) fn label(&self, key: &str) -> Option<&ArcStr> {
        label(&self.labels, key)
    }

    /// Oldest first, then name, then namespace (`model.sortConfigByCreationTime`).
    pub(crate) fn age(&self) -> (i64, &str, &str) {
        (self.created, self.name(), self.namespace())
    }

    /// Sorts by age. Few are of the same second: the names of the others need not be read.
    pub(crate) fn oldest_first<T>(list: &mut Vec<T>, meta: impl Fn(&T) -> &Self) {
        let mut dated: Vec<(i64, T)> = std::mem::take(list).into_iter().map(|one| (meta(&one).created, one)).collect();
        dated.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| meta(&a.1).age().cmp(&meta(&b.1).age())));
        list.extend(dated.into_iter().map(|(_, one)| one));
    }

    pub(crate) fn read(object: ObjectRef, at: &At<'_>) -> Self {
        at.key("metadata", |m| Self {
            object,
            created: m.key("creationTimestamp", |t| {
                let Some(text) = t.string() else { return i64::MIN };
                if let Ok(time) = text.parse::<jiff::Timestamp>() {
                    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
                } else {
                    t.note("is not a time");
                    i64::MIN
                }
            }),
            labels: m.key("labels", |l| l.labels()),
        })
    }
}

/// exportTo as declared; `None` where it is absent or empty.
pub(crate) fn export_to(at: &At<'_>) -> Option<Vec<ArcStr>> {
    let mut list = at.strings();
    list.sort();
    list.dedup();
    (!list.is_empty()).then_some(list)
}
