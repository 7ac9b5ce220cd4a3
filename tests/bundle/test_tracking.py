"""MONAI's tracking with MLflow, by the bundle's settings for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow


def test_mlflow_gets_losses_scores_and_hyper_parameters(
    project_root: Path, hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    configs = project_root / "bundle" / "configs"
    workflow = ConfigWorkflow(
        config_file=str(configs / "train.json"),
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        run_id="training",
        workflow_type="train",
        tracking=str(configs / "mlflow.json"),
        bundle_root=str(project_root / "bundle"),
        dataset_dir=str(hr_folder),
        output_dir=str(tmp_path),
        ckpt_dir=str(tmp_path),
        epochs=2,
        **tiny_options,
    )
    workflow.initialize()
    workflow.run()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlruns.db'}")
    experiment = client.get_experiment_by_name("pssr2_monai")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    # Six steps an epoch; the first and every tenth is looked at.
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train_loss")] == [1, 10]
    trainer, evaluator = (workflow.parser.get_parsed_content(name) for name in ("train#trainer", "validate#evaluator"))
    assert trainer.state.epoch == 2
    for name, value in evaluator.state.metrics.items():
        history = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == [1, 2]
        assert history[-1].value == pytest.approx(value)
    assert (run.data.params["tile"], run.data.params["network_def.channels"]) == ("32", "[8, 16]")
