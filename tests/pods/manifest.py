"""The StatefulSet as its pods see it: environment, probes, preStop."""

import re

import yaml


class Manifest:
    """What the plain manifests say of one pod."""

    NAMESPACE = "default"

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            found = {(it["kind"], it["metadata"]["name"]): it for it in yaml.safe_load_all(file) if it}
        self.set = found["StatefulSet", "quorate"]["spec"]
        self.settings = found["ConfigMap", "quorate"]["data"]["quorate.toml"]
        self.pod = self.set["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.service = self.set["serviceName"]
        self.user = self.pod["securityContext"]["runAsUser"]
        self.group = self.pod["securityContext"]["fsGroup"]
        self.grace = self.pod["terminationGracePeriodSeconds"]
        self.min_ready = self.set["minReadySeconds"]
        self.mounts = {it["name"]: it["mountPath"] for it in self.container["volumeMounts"]}
        self.arguments = self.container["args"]
        self.pre_stop = self.container["lifecycle"]["preStop"]["exec"]["command"]

    def probe(self, name):
        """(path, port, period, timeout, failures allowed) of startup, liveness or readiness."""
        probe = self.container[f"{name}Probe"]
        ports = {it["name"]: it["containerPort"] for it in self.container["ports"]}
        port = ports[probe["httpGet"]["port"]]
        path = probe["httpGet"]["path"]
        return path, port, probe["periodSeconds"], probe["timeoutSeconds"], probe["failureThreshold"]

    def environment(self, pod):
        """The variables of one pod, with $(NAME) resolved as the kubelet does."""
        fields = {"metadata.name": pod, "metadata.namespace": self.NAMESPACE}
        found = {}
        for variable in self.container["env"]:
            if "valueFrom" in variable:
                value = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                known = lambda match: found.get(match[1], match[0])
                value = re.sub(r"\$\(([A-Za-z0-9_]+)\)", known, variable["value"])
            found[variable["name"]] = value
        return found

    def secret_file(self):
        """Where the pod finds the cluster's secret."""
        return self.environment("")["QUORATE_CLUSTER_SECRET_FILE"]

    def address(self, pod):
        """How members call the pod."""
        return self.environment(pod)["QUORATE_ADVERTISE"]
