"""The calibration: probabilities of the final network made to mean what they say, on the fold kept for it."""

import torch

from shared.callbacks.collect import collecting
from shared.callbacks.temperature_scaling import TemperatureScaling
from shared.final import final_state
from shared.session import Session


def calibrate(session: Session) -> None:
    """Choose a calibrator and write calibrator.safetensors and calibration.json; nothing to do without the callback."""
    callback = session.callback(TemperatureScaling)
    if callback is None or session.run.done("calibrate") is not None:
        return
    assert session.module is not None
    if session.module.curve_axes() is not None:
        session.say("calibration: the network states neither probabilities nor a variance, so nothing is calibrated")
        return
    if len(session.datamodule.rows("calibrate")) == 0:
        session.warn("the calibrate fold has no samples: probabilities are left as they are")
        return
    assert session.trainer is not None
    session.module.load_weights(final_state(session.run))
    loader = session.datamodule.loader("calibrate", "calibrate")
    with collecting(session.trainer) as collected:
        session.trainer.predict(session.module, dataloaders=loader, return_predictions=False)
    names = session.datamodule.domain_names()
    choice = callback.run(
        logits=collected.logits()[""],
        target=torch.from_numpy(collected.target),
        group=session.datamodule.index.group[collected.rows],
        domain=collected.domain.numpy() if names else None,
        domain_names=names,
        folder=session.run.path,
    )
    for sentence in choice.warnings:
        session.warn(sentence)
    session.say(f"calibration: {choice.reason}")
    session.run.mark_done(
        "calibrate",
        {
            "method": choice.method,
            "reason": choice.reason,
            "temperature": choice.temperature,
            "per_group": choice.per_group,
        },
    )
