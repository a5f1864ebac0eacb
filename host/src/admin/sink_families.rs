//! The metrics of a sink, as far as it has them.

use std::fmt;

use prometheus_client::registry::Unit;

use crate::admin::families::Families;
use crate::metrics::sink_metrics::{SinkMetrics, StoreMetrics, StreamState};

const BYTES: Option<Unit> = Some(Unit::Bytes);
const SECONDS: Option<Unit> = Some(Unit::Seconds);

pub(super) fn encode(families: &mut Families<'_>, sink: &SinkMetrics) -> fmt::Result {
    if let Some(queue) = &sink.queue {
        let (puts, bytes) = queue.depth();
        let help = "Puts in the queue of the sink";
        families.gauge("alldata_peer_queue_puts", help, None, puts as u64)?;
        let help = "Bytes of puts in the queue of the sink";
        families.gauge("alldata_peer_queue", help, BYTES, bytes as u64)?;
        let help = "The limit on puts in the queue of the sink (--max-queue)";
        families.gauge(
            "alldata_peer_queue_puts_limit",
            help,
            None,
            queue.max_puts as u64,
        )?;
        let help = "The limit on bytes in the queue of the sink (--max-queue-bytes)";
        families.gauge(
            "alldata_peer_queue_limit",
            help,
            BYTES,
            queue.max_bytes as u64,
        )?;
    }
    if let Some(batches) = &sink.batches {
        let help = "Puts that were written together";
        let puts = batches.puts.observations();
        families.histogram("alldata_peer_batch_puts", help, None, &puts)?;
        let help = "Time to write a batch of puts, with all checks";
        let time = batches.time.observations();
        families.histogram("alldata_peer_batch_duration", help, SECONDS, &time)?;
    }
    if let Some(store) = &sink.store {
        encode_store(families, store)?;
    }
    match &sink.stream {
        Some(stream) => encode_stream(families, (stream.0)()),
        None => Ok(()),
    }
}

fn encode_store(families: &mut Families<'_>, store: &StoreMetrics) -> fmt::Result {
    let help = "Time of a commit of the store, with its sync";
    let commit = store.commit_time.observations();
    families.histogram("alldata_peer_store_commit_duration", help, SECONDS, &commit)?;
    let help = "Bytes of the WAL of the store that are in use";
    families.gauge("alldata_peer_store_wal", help, BYTES, store.wal_bytes.get())?;
    let help = "The limit on bytes of the WAL (--max-wal)";
    families.gauge(
        "alldata_peer_store_wal_limit",
        help,
        BYTES,
        store.max_wal_bytes,
    )?;
    let help = "Whether the files of the store are in order";
    let is_in_order = u64::from(store.fault().is_none());
    families.gauge("alldata_peer_store_files_in_order", help, None, is_in_order)?;
    let help = "Size of the database file of the store, without its WAL";
    let bytes = store.database_bytes.get();
    families.gauge("alldata_peer_store_database", help, BYTES, bytes)
}

fn encode_stream(families: &mut Families<'_>, state: StreamState) -> fmt::Result {
    let help = "Whether there is a connection to a NATS server";
    families.gauge(
        "alldata_peer_nats_connected",
        help,
        None,
        u64::from(state.is_connected),
    )?;
    let help = "Whether the last probe found a leader of the stream";
    families.gauge(
        "alldata_peer_nats_leader_known",
        help,
        None,
        u64::from(state.has_leader),
    )?;
    let help = "Connections to a NATS server after the first one";
    families.counter(
        "alldata_peer_nats_reconnections",
        help,
        None,
        state.reconnections,
    )
}
