"""Parameters of a node from a table of `Setting`: declared, checked, and kept for quick reading."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tailwire.runtime.errors import ConfigError

from .settings import Setting, problem

#: Parameters that rclpy declares itself, when it comes to it.
_OTHERS = ("qos_overrides.", "use_sim_time", "start_type_description_service")


class Parameters:
    """The declared parameters of one node; read from any thread."""

    def __init__(self, node: Any, on_change: Callable[[Mapping[str, Any]], None]) -> None:
        """Declare nothing yet.

        Args:
            node: of rclpy.
            on_change: told the new values of parameters that were set after declaration; raises
                `ConfigError` to refuse them.
        """
        self._node, self._on_change = node, on_change
        self._settings: dict[str, Setting] = {}
        self._values: dict[str, Any] = {}
        #: While true, only live parameters may change.
        self.frozen = False
        node.add_on_set_parameters_callback(self._check)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def group(self, prefix: str) -> dict[str, Any]:
        """Values of all parameters with a prefix, without it."""
        size = len(prefix)
        return {k[size:]: value for k, value in self._values.items() if k.startswith(prefix)}

    @property
    def values(self) -> Mapping[str, Any]:
        """All values by name."""
        return dict(self._values)

    def declare(self, settings: Mapping[str, Setting], prefix: str = "") -> None:
        """Declare what is not declared yet.

        Raises:
            ConfigError: a given value does not fit.
        """
        for short, setting in settings.items():
            name = f"{prefix}{short}"
            if name in self._settings:
                continue
            self._settings[name] = setting
            try:
                declared = self._node.declare_parameter(name, setting.default, descriptor(setting))
            except Exception as error:
                del self._settings[name]
                # rclpy has a class of errors for each way in which a value can be wrong.
                raise ConfigError(str(error), field=name, remedy=setting.about) from error
            self._values[name] = _plain(declared.value, setting)

    def check_unknown(self) -> None:
        """Refuse given values that no parameter takes: a typing error would change nothing.

        Raises:
            ConfigError: naming the first of them.
        """
        given: Mapping[str, Any] = getattr(self._node, "_parameter_overrides", {})
        for name in given:
            if name not in self._settings and not name.startswith(_OTHERS):
                raise ConfigError(
                    f"there is no parameter '{name}'",
                    field=name,
                    remedy=f"known are {', '.join(sorted(self._settings))}",
                )

    def _check(self, parameters: Sequence[Any]) -> Any:
        from rcl_interfaces.msg import SetParametersResult

        changed: dict[str, Any] = {}
        for parameter in parameters:
            setting = self._settings.get(parameter.name)
            if setting is None:
                continue
            reason = problem(parameter.name, setting, _listed(parameter.value))
            known = parameter.name in self._values
            if not reason and known and self.frozen and not setting.live:
                reason = f"parameter '{parameter.name}' changes only while the node is unconfigured"
            if reason:
                return SetParametersResult(successful=False, reason=reason)
            if known:
                changed[parameter.name] = _plain(parameter.value, setting)
        before = dict(self._values)
        self._values.update(changed)
        if changed:
            try:
                self._on_change(changed)
            except ConfigError as error:
                self._values = before
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def descriptor(setting: Setting) -> Any:
    """What `ros2 param describe` shows, and the range that rclpy keeps."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    about = setting.about
    if setting.choices:
        about += f"; one of {', '.join(setting.choices)}"
    described = ParameterDescriptor(description=about)
    if isinstance(setting.default, float):
        # Whoever writes 50 for 50.0 means the same.
        described.dynamic_typing = True
        described.floating_point_range = [
            FloatingPointRange(from_value=float(setting.low), to_value=float(setting.high))
        ]
    elif isinstance(setting.default, int) and not isinstance(setting.default, bool):
        described.integer_range = [
            IntegerRange(from_value=int(setting.low), to_value=int(setting.high))
        ]
    return described


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _plain(value: Any, setting: Setting) -> Any:
    return float(value) if isinstance(setting.default, float) else _listed(value)
