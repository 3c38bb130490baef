//! What this process knows of open alerts: what it saw in the database last, and what it did without it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{Alert, Condition, Progress, What};
use crate::clock;

/// The most alerts that are remembered, beside those that are open.
const MOST: usize = 1_000;

/// An alert, and what these receivers were told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Incident {
    pub alert: Alert,
    pub progress: Vec<Progress>,
    /// Whether it is from the database. What is may be resolved only there: without the database not all can be judged.
    pub is_known: bool,
    /// Whether something happened to it that the database does not have.
    pub is_changed: bool,
}

/// Something to send.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub alert: Alert,
    pub progress: Progress,
}

/// A receiver, as far as its schedule goes.
#[derive(Debug, Clone)]
pub(super) struct Receiver {
    pub name: String,
    /// Whether it is told of acknowledged alerts, too.
    pub is_told_always: bool,
}

/// The times between which a plan may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub now: DateTime<Utc>,
    /// Until when a claim lasts.
    pub claimed_until: DateTime<Utc>,
    /// The latest time at which anything can be due next.
    pub latest: DateTime<Utc>,
}

impl Incident {
    pub(super) fn known(alert: Alert) -> Self {
        Self {
            alert,
            progress: Vec::new(),
            is_known: true,
            is_changed: false,
        }
    }

    fn progress_of(&mut self, sink: &str, what: What) -> Option<&mut Progress> {
        let mut all = self.progress.iter_mut();
        all.find(|progress| progress.sink == sink && progress.what == what)
    }

    /// Puts a delivery into the place of an older one of the same.
    fn put(&mut self, progress: Progress) {
        match self.progress_of(&progress.sink, progress.what) {
            Some(place) => *place = progress,
            None => self.progress.push(progress),
        }
    }

    /// The condition still holds.
    fn seen(&mut self, condition: &Condition, now: DateTime<Utc>) {
        let alert = &mut self.alert;
        if alert.severity < condition.severity {
            alert.severity = condition.severity;
            alert.escalated_at = Some(now);
            alert.acknowledged_at = None;
            alert.acknowledged_by = None;
            alert.note = None;
            for progress in &mut self.progress {
                progress.next_at = Some(now);
            }
        }
        alert.title.clone_from(&condition.title);
        alert.detail.clone_from(&condition.detail);
        condition.runbook.clone_into(&mut alert.runbook);
        alert.seen_at = alert.seen_at.max(now);
    }

    /// It is over: whom it was tried to tell of it is told.
    fn resolve(&mut self, now: DateTime<Utc>) {
        self.alert.resolved_at = Some(now.max(self.alert.opened_at));
        self.is_changed = true;
        let told = self
            .progress
            .iter()
            .filter(|progress| progress.what == What::Firing && progress.attempts > 0);
        let ends: Vec<Progress> = told
            .map(|progress| Progress::begun(&progress.sink, What::Resolved, now))
            .collect();
        self.progress.extend(ends);
    }
}

#[derive(Default)]
pub(super) struct Memory {
    incidents: BTreeMap<Uuid, Incident>,
}

impl Memory {
    /// What is open in the database takes the place of what was; what the database has not heard of yet stays.
    pub(super) fn replace(&mut self, open: Vec<Incident>) {
        self.incidents.retain(|_, incident| incident.is_changed);
        for incident in open.into_iter().take(MOST) {
            self.incidents.entry(incident.alert.id).or_insert(incident);
        }
    }

    /// What the database has not heard of yet.
    pub(super) fn changed(&self) -> Vec<Incident> {
        let all = self.incidents.values();
        all.filter(|incident| incident.is_changed)
            .cloned()
            .collect()
    }

    /// The database has these, as they were then. What is open is remembered until it is read back: the database may be away
    /// again before that.
    pub(super) fn adopted(&mut self, written: &[Incident]) {
        for incident in written {
            let id = incident.alert.id;
            let Some(there) = self.incidents.get_mut(&id) else {
                continue;
            };
            if there != incident {
                continue;
            }
            there.is_known = true;
            there.is_changed = false;
            if incident.alert.resolved_at.is_some() {
                self.incidents.remove(&id);
            }
        }
    }

    /// What became of a delivery that was claimed in the database. `is_recorded` says that the database has it.
    pub(super) fn note(&mut self, alert: &Alert, progress: &Progress, is_recorded: bool) {
        let incident = self
            .incidents
            .entry(alert.id)
            .or_insert_with(|| Incident::known(alert.clone()));
        incident.put(progress.clone());
        incident.is_changed |= !is_recorded;
    }

    /// The alert as somebody has changed it in the database.
    pub(super) fn update(&mut self, alert: &Alert) {
        if let Some(incident) = self.incidents.get_mut(&alert.id) {
            incident.alert = alert.clone();
        }
    }

    /// As an observation, as far as it can be made without the database.
    pub(super) fn observe(&mut self, source: &str, conditions: &[Condition], now: DateTime<Utc>) {
        for condition in conditions {
            let open = self.incidents.values_mut().find(|incident| {
                incident.alert.resolved_at.is_none() && incident.alert.key == condition.key
            });
            if let Some(incident) = open {
                incident.seen(condition, now);
            } else {
                self.make_room();
                let id = clock::uuid_at(now);
                let incident = Incident {
                    alert: condition.opened(id, source, now),
                    progress: Vec::new(),
                    is_known: false,
                    is_changed: true,
                };
                self.incidents.insert(id, incident);
            }
        }
        for incident in self.incidents.values_mut() {
            let alert = &incident.alert;
            let is_over = !incident.is_known
                && alert.source == source
                && alert.resolved_at.is_none()
                && conditions.iter().all(|named| named.key != alert.key);
            if is_over {
                incident.resolve(now);
            }
        }
    }

    /// Forgets what ended longest ago, where there is too much: what is wrong now is told in any case.
    fn make_room(&mut self) {
        if self.incidents.len() < MOST {
            return;
        }
        let ended = self.incidents.values();
        let oldest = ended
            .filter_map(|incident| Some((incident.alert.resolved_at?, incident.alert.id)))
            .min();
        if let Some((_, id)) = oldest {
            self.incidents.remove(&id);
        }
    }

    /// Claims what is due of these conditions, and ends that are still to be told.
    pub(super) fn claim(
        &mut self,
        receivers: &[Receiver],
        conditions: &[Condition],
        times: Times,
    ) -> Vec<Due> {
        let mut due = Vec::new();
        for incident in self.incidents.values_mut() {
            let is_over = incident.alert.resolved_at.is_some();
            let is_named = conditions
                .iter()
                .any(|named| named.key == incident.alert.key);
            if !is_over && !is_named {
                continue;
            }
            for receiver in receivers {
                if !is_over && incident.alert.acknowledged_at.is_some() && !receiver.is_told_always
                {
                    continue;
                }
                let what = if is_over {
                    What::Resolved
                } else {
                    What::Firing
                };
                if !is_over && incident.progress_of(&receiver.name, what).is_none() {
                    incident
                        .progress
                        .push(Progress::begun(&receiver.name, what, times.now));
                }
                let Some(progress) = incident.progress_of(&receiver.name, what) else {
                    continue;
                };
                let is_due = progress
                    .next_at
                    .is_some_and(|next| next <= times.now || next > times.latest);
                if !is_due {
                    continue;
                }
                progress.attempts += 1;
                progress.next_at = Some(times.claimed_until);
                let progress = progress.clone();
                incident.is_changed = true;
                due.push(Due {
                    alert: incident.alert.clone(),
                    progress,
                });
            }
        }
        due
    }
}

/// The latest time at which anything can be due next.
pub(super) fn latest(now: DateTime<Utc>, repeat: TimeDelta) -> DateTime<Utc> {
    now + repeat.max(TimeDelta::minutes(10)) + TimeDelta::minutes(5)
}

/// The gravest of each key, as it may be kept.
pub(super) fn distinct(conditions: &[Condition]) -> Vec<Condition> {
    let mut distinct: BTreeMap<String, Condition> = BTreeMap::new();
    for condition in conditions {
        let condition = condition.fitted();
        let is_graver = distinct
            .get(&condition.key)
            .is_none_or(|there: &Condition| there.severity < condition.severity);
        if is_graver {
            distinct.insert(condition.key.clone(), condition);
        }
    }
    distinct.into_values().collect()
}
