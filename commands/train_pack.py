"""`tailwire train pack`: what was trained, as a pack."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ..runtime.calibration_table import CalibrationTable


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the sub-command."""
    parser.add_argument(
        "--encoders-from",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder of `train encoders`, with camera.safetensors and lidar.safetensors",
    )
    parser.add_argument(
        "--connections-from",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder of `train connections`, with connection.safetensors and connections.json",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="pack to make; must not exist"
    )
    parser.add_argument("--name", default="driving", help="of the pack (driving)")
    parser.add_argument("--version", default="1", help="of the pack (1)")
    parser.add_argument(
        "--description",
        default="Answers about streets from six cameras and a LiDAR; trained on made drives",
        help="one sentence",
    )
    parser.add_argument(
        "--notes", metavar="FILE.md", type=Path, help="how it was made, beside the records"
    )
    parser.add_argument("--threads", metavar="N", type=int, default=2, help="of engines (2)")


def run(args: Namespace) -> int:
    """Write the pack and load it again."""
    from ..assembly import load_language_model
    from ..runtime.config import RuntimeConfig
    from ..runtime.connections import ConnectionSpec
    from ..runtime.model_registry import ModelRegistry
    from ..runtime.pack import load_pack, read_encoder_weights, read_weights
    from ..simulation.questions.standing import STANDING_QUESTIONS
    from ..training.pack_writer import BACKBONE, PackContent, encoder_specs, write_pack

    records = {
        "connections": _record(args.connections_from / "connections.json"),
        **{
            name: _record(args.encoders_from / f"{name}.json")
            for name, spec in encoder_specs().items()
            if spec.file
        },
    }
    spec = ConnectionSpec.model_validate(records["connections"]["connection"])
    registry = ModelRegistry()
    registry.get(BACKBONE)
    config = RuntimeConfig()
    model = load_language_model(
        config.model, config.precision, threads=args.threads, depths=(spec.tail_blocks,)
    )
    notes = ""
    if args.notes is not None:
        try:
            notes = args.notes.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"cannot be read: {error}", field=str(args.notes), remedy="name a text file"
            ) from error
    manifest = write_pack(
        args.out,
        PackContent(
            name=args.name,
            version=args.version,
            description=args.description,
            model_name=model.manifest.name,
            model_config=model.config,
            backbone_sha256=registry.sha256(BACKBONE),
            encoders={
                name: read_encoder_weights(args.encoders_from / encoder.file)
                for name, encoder in encoder_specs().items()
                if encoder.file
            },
            connection=spec,
            weights=read_weights(args.connections_from / spec.file),
            tail_blocks=spec.tail_blocks,
            questions=STANDING_QUESTIONS,
            calibration=_calibration(records["connections"]),
            model_sha256=model.manifest.content_hash,
            tokenizer_sha256=model.tokenizer_sha256,
            how_made=_how_made(notes, records),
        ),
    )
    load_pack(args.out)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"pack     {args.out} ({size / 1e6:.1f} MB)")
    print(f"sensors  {', '.join(sensor.name for sensor in manifest.sensors)}")
    return 0


def _record(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"the record of the training cannot be read: {error}",
            field=str(path),
            remedy="name the folder that the training wrote",
        ) from error


def _calibration(record: dict) -> CalibrationTable | None:
    """What held-out questions said at the end of the training of connections."""
    from ..runtime.calibration_table import CalibrationCell, CalibrationTable, MeasuredPlan

    held_out = record.get("held_out")
    if held_out is None:
        return None
    cells = [
        CalibrationCell(MeasuredPlan.newest(*one["sensors"]), kind, condition, questions, right)
        for one in held_out["sensor_sets"]
        for kind, condition, questions, right in one["cells"]
    ]
    settings = record["settings"]
    measured = (
        f"{held_out['questions']} held-out questions of {settings['scenes']} made scenes "
        f"({', '.join(settings['dataroots'])}), through the tail in bfloat16"
    )
    return CalibrationTable.of(measured, cells)


def _how_made(notes: str, records: dict[str, dict]) -> str:
    """Notes, and the records of all trainings, as Markdown."""
    parts = ["# How this pack was made", notes.strip()]
    for name, record in records.items():
        parts += [f"## {name}", "```json\n" + json.dumps(record, indent=1) + "\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"
