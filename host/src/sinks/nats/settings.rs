//! The configuration of a stream: the one that a peer creates it with, and settings that could lose events.

use std::time::Duration;

use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};

use super::identity::{ID, new_id};
use super::url::NatsUrl;

/// A setting of a stream with an unsafe value, by its name in the JSON of JetStream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnsafeSetting {
    pub(super) setting: &'static str,
    pub(super) found: String,
    pub(super) required: String,
}

/// The configuration of a new stream, with a new id.
pub(super) fn desired_config(url: &NatsUrl) -> Config {
    Config {
        name: url.stream.clone(),
        subjects: vec![url.prefix.wildcard()],
        description: Some("Events of AllData, written once".to_owned()),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: url.replicas,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        max_messages_per_subject: 1,
        max_messages: -1,
        max_bytes: -1,
        deny_delete: true,
        deny_purge: true,
        metadata: [(ID.to_owned(), new_id())].into(),
        ..Config::default()
    }
}

/// The settings with which a stream could lose, overwrite or refuse events. `max_msgs` is not among them: a full stream
/// refuses new events. Whether `max_bytes` is safe depends on the version of the server: see `stream`.
pub(super) fn unsafe_settings(config: &Config, url: &NatsUrl) -> Vec<UnsafeSetting> {
    let is = |setting, found: String, required: &str| UnsafeSetting {
        setting,
        found,
        required: required.to_owned(),
    };
    let no = |setting, found: bool| is(setting, found.to_string(), "false");
    let yes = |setting, found: bool| is(setting, found.to_string(), "true");
    let unset = |setting, found: bool| {
        let found = if found { "set" } else { "unset" };
        is(setting, found.to_owned(), "unset")
    };
    let subjects = &config.subjects;
    let takes_all = subjects
        .iter()
        .any(|subject| url.prefix.is_covered_by(subject));
    let replicas = config.num_replicas;
    let mut settings = vec![
        is(
            "retention",
            json(&config.retention),
            &json(&RetentionPolicy::Limits),
        ),
        is("storage", json(&config.storage), &json(&StorageType::File)),
        is("discard", json(&config.discard), &json(&DiscardPolicy::New)),
        yes("discard_new_per_subject", config.discard_new_per_subject),
        is(
            "max_msgs_per_subject",
            config.max_messages_per_subject.to_string(),
            "1",
        ),
        is(
            "max_age",
            format!("{:?}", config.max_age),
            &format!("{:?}", Duration::ZERO),
        ),
        yes("deny_delete", config.deny_delete),
        yes("deny_purge", config.deny_purge),
        no("allow_rollup_hdrs", config.allow_rollup),
        no("no_ack", config.no_ack),
        no("sealed", config.sealed),
        unset("mirror", config.mirror.is_some()),
        unset("subject_transform", config.subject_transform.is_some()),
        is(
            "persist_mode",
            json(&config.persist_mode.unwrap_or_default()),
            &json(&PersistenceMode::Default),
        ),
        no("allow_msg_ttl", config.allow_message_ttl),
        no("allow_msg_schedules", config.allow_message_schedules),
        no("allow_msg_counter", config.allow_message_counter),
    ];
    settings.retain(|setting| setting.found != setting.required);
    if replicas < url.replicas {
        let required = format!("{} or more", url.replicas);
        settings.push(is("num_replicas", replicas.to_string(), &required));
    }
    if !takes_all {
        settings.push(is("subjects", subjects.join(", "), &url.prefix.wildcard()));
    }
    settings
}

/// A setting as it stands in JSON, without the quotes.
fn json(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    text.trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_nats::jetstream::stream::{
        Config, DiscardPolicy, PersistenceMode, RetentionPolicy, Source, StorageType,
        SubjectTransform,
    };

    use super::{desired_config, unsafe_settings};
    use crate::sinks::nats::url::NatsUrl;

    fn url() -> NatsUrl {
        "nats://localhost/events".parse().expect("is one")
    }

    #[track_caller]
    fn assert_unsafe(setting: &str, change: impl FnOnce(&mut Config)) {
        let mut config = desired_config(&url());
        change(&mut config);
        let found = unsafe_settings(&config, &url());
        let names: Vec<&str> = found.iter().map(|found| found.setting).collect();
        assert_eq!(names, [setting]);
    }

    #[test]
    fn new_stream_is_safe() {
        assert_eq!(unsafe_settings(&desired_config(&url()), &url()), []);
    }

    #[test]
    fn limits_and_more_replicas_and_subjects_are_safe() {
        let mut config = desired_config(&url());
        config.max_bytes = 1;
        config.max_messages = 1;
        config.num_replicas = 5;
        config.subjects.insert(0, "other".to_owned());
        config.allow_direct = true;
        assert_eq!(unsafe_settings(&config, &url()), []);
    }

    #[test]
    fn each_unsafe_setting_is_named() {
        assert_unsafe("retention", |c| c.retention = RetentionPolicy::WorkQueue);
        assert_unsafe("retention", |c| c.retention = RetentionPolicy::Interest);
        assert_unsafe("storage", |c| c.storage = StorageType::Memory);
        assert_unsafe("discard", |c| c.discard = DiscardPolicy::Old);
        assert_unsafe("discard_new_per_subject", |c| {
            c.discard_new_per_subject = false;
        });
        assert_unsafe("max_msgs_per_subject", |c| c.max_messages_per_subject = -1);
        assert_unsafe("max_msgs_per_subject", |c| c.max_messages_per_subject = 2);
        assert_unsafe("max_age", |c| c.max_age = Duration::from_nanos(1));
        assert_unsafe("deny_delete", |c| c.deny_delete = false);
        assert_unsafe("deny_purge", |c| c.deny_purge = false);
        assert_unsafe("allow_rollup_hdrs", |c| c.allow_rollup = true);
        assert_unsafe("no_ack", |c| c.no_ack = true);
        assert_unsafe("sealed", |c| c.sealed = true);
        assert_unsafe("mirror", |c| c.mirror = Some(Source::default()));
        assert_unsafe("subject_transform", |c| {
            c.subject_transform = Some(SubjectTransform {
                source: "a".to_owned(),
                destination: "b".to_owned(),
            });
        });
        assert_unsafe("persist_mode", |c| {
            c.persist_mode = Some(PersistenceMode::Async);
        });
        assert_unsafe("allow_msg_ttl", |c| c.allow_message_ttl = true);
        assert_unsafe("allow_msg_schedules", |c| c.allow_message_schedules = true);
        assert_unsafe("allow_msg_counter", |c| c.allow_message_counter = true);
        assert_unsafe("num_replicas", |c| c.num_replicas = 2);
        assert_unsafe("subjects", |c| c.subjects = vec!["other.*".to_owned()]);
    }
}
