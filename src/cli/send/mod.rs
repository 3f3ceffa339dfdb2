//! `ringpush send`: one test push through the worker's own code, and what the
//! answer means.

mod dry;
mod event;
mod judge;
mod plan;
mod show;
mod stage;

pub use plan::Args;
use plan::{Plan, PlatformArg};
use serde_json::Value;
use stage::Stage;

/// Sends, or shows what would be sent.
///
/// # Errors
/// Arguments, configuration, keys, the profile or the event cannot be used.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let plan = Plan::new(args)?;
    if plan.args.dry_run {
        return dry::show(&plan);
    }
    if plan.args.validate_only && plan.args.platform == PlatformArg::Ios {
        return dry::check_ios(&plan).await;
    }
    // Before any connection is made.
    let event = event::ring(&plan)?;
    let stage = Stage::build(&plan)?;
    let code = once(&plan, &stage, &event).await;
    stage.close().await;
    code
}

async fn once(plan: &Plan, stage: &Stage, event: &Value) -> anyhow::Result<u8> {
    let shot = stage.shoot(event, plan.args.timeout).await?;
    let judgement = judge::judge(plan, &shot);
    show::shot(plan, &shot, &judgement)?;
    Ok(judgement.code)
}
