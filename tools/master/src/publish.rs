//! From a template of the node to what is served: work file, template file, `config.json`.

use packetcrypt_core::block::coinbase::find_placeholder;
use packetcrypt_core::bytes::{CompactTarget, read_u32};
use packetcrypt_core::primitives::dsha256;
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::template::BlockTemplate;
use packetcrypt_proto::work::{self, WorkFile};
use packetcrypt_proto::{PROTOCOL_SOFT_VERSION, PROTOCOL_VERSION, compact};

use crate::config::{Config, HandlerUrl, SHARE_WORK_DIVISOR_DEFAULT};
use crate::store::{Pair, WorkKey};

/// Why a template can not be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateFault {
    /// Nobody could put a commitment in.
    #[error("the coinbase of the template has no placeholder for the commitment")]
    NoPlaceholder,
    /// No share could ever be checked against it.
    #[error("the template's bits {0} are no well-formed target")]
    Bits(CompactTarget),
}

/// Which work a template is for.
pub(crate) fn key_of(template: &BlockTemplate) -> WorkKey {
    WorkKey { height: template.height, previous: work::previous_hash(&template.header) }
}

/// The two files of a template.
pub(crate) fn files_of(template: &BlockTemplate, config: &Config) -> Result<Pair, TemplateFault> {
    let has_placeholder = |bytes: &[u8]| find_placeholder(bytes).is_some();
    let with_witness = template.transactions.first();
    if !has_placeholder(&template.coinbase_no_witness)
        || !with_witness.is_some_and(|coinbase| has_placeholder(coinbase))
    {
        return Err(TemplateFault::NoPlaceholder);
    }
    let bits = CompactTarget(read_u32(&template.header, 72));
    if !bits.is_well_formed() {
        return Err(TemplateFault::Bits(bits));
    }
    let signing_key = config.signing_seed().map(|seed| seed.key(template.height).public());
    let ann_target = CompactTarget(config.ann_target);
    let share_target = share_target(bits, config);
    let work = WorkFile::from_template(template, signing_key, share_target, ann_target);
    Ok(Pair { work: work.to_bytes(), template: template.to_bytes() })
}

/// Whether stored files are the ones of this work. A file that an operator damaged is made anew.
pub(crate) fn is_pair_of(pair: &Pair, key: WorkKey) -> bool {
    let Ok(work) = WorkFile::parse(&pair.work) else { return false };
    let Ok(template) = BlockTemplate::parse(&pair.template) else { return false };
    key_of(&template) == key && work.height == key.height && work.header == template.header
}

/// The target of shares for blocks with these bits (spec 05, 4.7 step 3).
fn share_target(bits: CompactTarget, config: &Config) -> CompactTarget {
    let divisor = match (config.share_work_divisor, config.share_target) {
        (divisor, _) if divisor != 0.0 => divisor,
        (_, Some(target)) => return CompactTarget(target),
        (_, None) => SHARE_WORK_DIVISOR_DEFAULT,
    };
    compact::share_target(bits, divisor)
}

/// `config.json` for a work (spec 05, 4.2). Its hash is told where it may be refreshed, so that
/// clients see that it was.
pub(crate) fn master_config(config: &Config, key: WorkKey, work: &[u8]) -> MasterConfig {
    let submit = |handlers: &[HandlerUrl]| {
        handlers.iter().map(|handler| format!("{}/submit", handler.url)).collect()
    };
    MasterConfig {
        tip_hash: key.previous,
        current_height: key.height,
        master_url: config.master_url.clone(),
        submit_ann_urls: submit(&config.ann_handlers),
        download_ann_urls: config.ann_handlers.iter().map(|h| h.url.clone()).collect(),
        submit_block_urls: submit(&config.blk_handlers),
        paymaker_url: config.paymaker_url.clone(),
        version: PROTOCOL_VERSION,
        soft_version: PROTOCOL_SOFT_VERSION,
        ann_versions: config.ann_versions.clone(),
        mine_old_anns: config.mine_old_anns,
        ann_target: Some(CompactTarget(config.ann_target)),
        blkinfo_url: None,
        work_hash: (config.template_refresh_ms > 0).then(|| dsha256(work)),
    }
}
