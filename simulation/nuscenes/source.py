"""One scene of a nuScenes data set as a drive to be played."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ...runtime.errors import SensorError
from ...runtime.frames import SensorFrame
from ..source import Keyframe
from .reader import NuScenes
from .records import SampleData, Scene


class NuScenesDrive:
    """A scene of a data set; implements `DriveSource`."""

    def __init__(
        self, data: NuScenes, scene: Scene | str, wanted: Callable[[int], bool] | None = None
    ) -> None:
        """Find the scene; no sensor file is read.

        Args:
            data: the opened data set.
            scene: the record, its token or its name.
            wanted: tells by its stamp in ns whether a frame takes part; None takes all.

        Raises:
            DataError: there is no such scene.
        """
        self.data = data
        self._wanted = wanted
        samples = data.samples(scene)
        key = scene.token if isinstance(scene, Scene) else scene
        self.scene = next(one for one in data.scenes if key in (one.token, one.name))
        present = {file.sensor for file in data.drive_data(self.scene)}
        self._sensors = tuple(name for name in data.sensors if name in present)
        self._keyframes = tuple(Keyframe(sample.token, sample.stamp_ns) for sample in samples)

    @property
    def title(self) -> str:
        """The scene and the version of its data set."""
        return f"{self.scene.name}, nuScenes {self.data.version}"

    @property
    def sensors(self) -> tuple[str, ...]:
        """The cameras and LiDARs that have a file in this scene."""
        return self._sensors

    @property
    def keyframes(self) -> tuple[Keyframe, ...]:
        """All of them, in stamp order."""
        return self._keyframes

    def frames(
        self,
        sensors: Sequence[str] | None = None,
        on_drop: Callable[[str, int, SensorError], None] | None = None,
    ) -> Iterator[SensorFrame]:
        """Its frames in stamp order, sweeps too, one file read a step.

        Args:
            sensors: names; None takes all.
            on_drop: told sensor, stamp in ns and reason of a frame that cannot be read.

        Raises:
            SensorError: a sensor is unknown, or a file is bad and there is no `on_drop`.
        """

        def tell(file: SampleData, error: SensorError) -> None:
            if on_drop is not None:
                on_drop(file.sensor, file.stamp_ns, error)

        keep = self._wanted
        return self.data.drive(
            self.scene,
            sensors,
            on_drop=tell if on_drop else None,
            wanted=None if keep is None else lambda file: keep(file.stamp_ns),
        )
